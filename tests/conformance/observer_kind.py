"""The observers that fixtures attach."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.compiled import CompiledGraph
from orchestrator.observers.event import Event, NodeEvent
from orchestrator.observers.subscription import Subscription
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.world import World


@dataclass
class Log:
    """What the observers of a case were told, in the order of telling."""

    entries: list[tuple[str, Event]] = field(default_factory=list)
    of_invocation: list[Subscription] = field(default_factory=list)


class Observing:
    """Keeps or refuses what it is told, slowly where the fixture says so."""

    def __init__(self, section: Section, log: Log) -> None:
        self.name = section.take("name")
        self._behavior = section.take("behavior", "record")
        if self._behavior not in ("record", "raise", "accumulate"):
            raise UnknownDirective(f"{section.path}.behavior: {self._behavior}")
        self._pauses = section.take("sleep_ms_per_event", 0)
        if isinstance(self._pauses, dict) and set(self._pauses) != {"first_invocation", "subsequent_invocations"}:
            raise UnknownDirective(f"{section.path}.sleep_ms_per_event: {sorted(self._pauses)}")
        self._log = log
        self._invocations: list[str] = []
        self.buckets: dict[str, list[NodeEvent]] = defaultdict(list)

    async def __call__(self, event: Event) -> None:
        if event.invocation_id not in self._invocations:
            self._invocations.append(event.invocation_id)
        pause = self._pauses
        if isinstance(pause, dict):
            is_first = event.invocation_id == self._invocations[0]
            pause = pause["first_invocation" if is_first else "subsequent_invocations"]
        await asyncio.sleep(pause / 1000)
        self._log.entries.append((self.name, event))
        if isinstance(event, NodeEvent):
            self.buckets[event.invocation_id].append(event)
        if self._behavior == "raise":
            raise RuntimeError("an observer that raises")


def attach(
    sections: list[Section],
    graph: CompiledGraph[Any],
    subgraphs: Mapping[str, CompiledGraph[Any]],
    *,
    log: Log,
    world: World,
) -> None:
    """Attach the observers of a case to its graph, to a graph in it, or to its invocations."""
    for section in sections:
        observer = Observing(section, log)
        world.observers[observer.name] = observer
        phases, target = section.take("phases"), section.take("target", "outer")
        where = section.take("attach")
        if where == "graph":
            _target(target, graph, subgraphs).attach_observer(observer, phases=phases)
        elif where == "invocation":
            log.of_invocation.append(Subscription.of(observer, phases))
        else:
            raise UnknownDirective(f"{section.path}.attach: {where}")


def _target(name: str, graph: CompiledGraph[Any], subgraphs: Mapping[str, CompiledGraph[Any]]) -> CompiledGraph[Any]:
    if name == "outer":
        return graph
    if name in subgraphs:
        return subgraphs[name]
    if name == "inner" and len(subgraphs) == 1:
        return next(iter(subgraphs.values()))
    raise UnknownDirective(f"observer target {name}")
