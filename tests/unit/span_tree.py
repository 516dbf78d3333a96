"""A tracing that remembers which span of this process was given what."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from orchestrator.error_record import ErrorRecord
from orchestrator.execution.frame import Frame
from orchestrator.graph.node import FunctionNode, SubgraphNode
from orchestrator.observers.site import Site
from orchestrator.scope import get_invocation_metadata
from orchestrator.tracing.span import Carrier, Span, SpanKind


@dataclass(slots=True)
class Remembered:
    """A span that keeps what it was given; it begins with the metadata that holds where it is opened."""

    name: str
    kind: SpanKind
    parent: Span | None = None
    ids: tuple[str, str] | None = ("t" * 32, "s" * 16)
    facts: dict[str, Any] = field(
        default_factory=lambda: {f"user.{name}": value for name, value in get_invocation_metadata().items()}
    )

    def current(self) -> AbstractContextManager[None]:
        return nullcontext()

    def note(self, facts: Mapping[str, Any]) -> None:
        self.facts.update(facts)

    def saved(self, index: int | None = None, delivery: int = 1) -> None:
        return None

    def migrated(self, _from_version: str, _to_version: str, *, chain_length: int) -> None:
        return None

    def carrier(self, _instance_count: int) -> Carrier:
        return {"traced": "yes"}

    def dispatched(self, _index: int, _delivery: int) -> None:
        return None

    def end(self, error: ErrorRecord | None = None) -> None:
        return None


class SpanTree:
    """Opens such spans; an instance's has no parent here, as where it runs in another process."""

    def __init__(self) -> None:
        self.spans: list[Remembered] = []

    def invocation(self, _frame: Frame) -> Span:
        return self._opened("invocation", SpanKind.INVOCATION, None)

    def node(self, site: Site, parent: Span) -> Span:
        kinds: dict[Any, SpanKind] = {FunctionNode: SpanKind.NODE, SubgraphNode: SpanKind.SUBGRAPH}
        return self._opened(site.namespace[-1], kinds.get(type(site.subject), SpanKind.FORK), parent)

    def branch(self, site: Site, parent: Span) -> Span:
        return self._opened(f"branch {site.frame.levels[-1].branch}", SpanKind.BRANCH, parent)

    def instance(self, site: Site, _carrier: Carrier, _facts: Mapping[str, Any]) -> Span:
        return self._opened(f"instance {site.frame.levels[-1].index}", SpanKind.INSTANCE, None)

    def call(self, name: str, _facts: Mapping[str, Any], parent: Span) -> Span:
        return self._opened(name, SpanKind.CALL, parent)

    def user_facts(self, entry: str) -> dict[str, list[Any]]:
        """What each span has of one entry, by the span's name, in the order in which the spans were opened."""
        found: dict[str, list[Any]] = {}
        for span in self.spans:
            found.setdefault(span.name, []).append(span.facts.get(f"user.{entry}"))
        return found

    def _opened(self, name: str, kind: SpanKind, parent: Span | None) -> Span:
        span = Remembered(name, kind, parent)
        self.spans.append(span)
        return span
