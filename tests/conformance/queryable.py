"""Observers that nodes of a fixture ask for what they were told."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from orchestrator.context import current_invocation_id
from orchestrator.observers.draining import drain_events_for
from orchestrator.observers.event import Event, NodeEvent
from tests.conformance.document import Section, UnknownDirective


class EventCounter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, event: Event) -> None:
        self.count += isinstance(event, NodeEvent)

    async def get_count(self) -> int:
        return self.count


class TypedEventCounter:
    """Counts, also by the kind of the event."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()

    async def __call__(self, event: Event) -> None:
        if isinstance(event, NodeEvent):
            self.kinds[event.phase.value] += 1

    async def get_snapshot(self) -> dict[str, Any]:
        return {"total": sum(self.kinds.values()), "by_type": dict(self.kinds)}


class Accumulator:
    """Keeps the events of every invocation until it is told to drop them."""

    def __init__(self) -> None:
        self.buckets: dict[str, list[str]] = defaultdict(list)

    async def __call__(self, event: Event) -> None:
        if isinstance(event, NodeEvent):
            self.buckets[event.invocation_id].append(f"{event.node_name} {event.phase.value} in {event.invocation_id}")

    async def get_bucket_for_current_invocation(self) -> dict[str, Any]:
        invocation_id = current_invocation_id() or ""
        # Events come in their own time; whoever reads what must be there waits for them.
        await drain_events_for(invocation_id, timeout=5)
        return {"events": list(self.buckets[invocation_id])} if self.has_bucket(invocation_id) else {}

    def has_bucket(self, invocation_id: str) -> bool:
        return invocation_id in self.buckets

    def drop(self, invocation_id: str) -> None:
        del self.buckets[invocation_id]


KINDS: dict[str, Callable[[], Any]] = {
    "event_counter": EventCounter,
    "typed_event_counter": TypedEventCounter,
    "per_invocation_accumulator": Accumulator,
}


def queryable(sections: list[Section]) -> dict[str, Any]:
    """The observers of a case, by name."""
    made: dict[str, Any] = {}
    for section in sections:
        kind = section.take("kind")
        if kind not in KINDS:
            raise UnknownDirective(f"{section.path}.kind: {kind}")
        if section.take("persists_across_invocations", default=True) is not True:
            raise UnknownDirective(f"{section.path}.persists_across_invocations")
        made[section.take("name")] = KINDS[kind]()
    return made
