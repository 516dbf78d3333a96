"""A span: what a trace knows of one piece of work while it is open."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

from orchestrator.error_record import ErrorRecord

Carrier = Mapping[str, str]
"""What another process needs to trace the instances of one fan-out under that node's span; empty: nothing."""


CANCELLED = ErrorRecord(category="cancelled", message="it was cancelled", type="CancelledError")
"""How a span ends whose work was stopped: no exception of its own."""


def as_step_failure(error: ErrorRecord) -> ErrorRecord:
    """The error as a span of what runs others tells it: that a step inside failed, whatever that came from."""
    category = error.chain[0].category if error.chain else error.category
    return replace(error, category="node_exception" if category == "parallel_branches_branch_failed" else category)


class SpanKind(StrEnum):
    """What a span is of. A fork is a node whose instances or branches run beside each other."""

    INVOCATION = "invocation"
    NODE = "node"
    SUBGRAPH = "subgraph"
    FORK = "fork"
    INSTANCE = "instance"
    BRANCH = "branch"
    CALL = "call"


class Span(Protocol):
    """A span that is open. Nothing here ever raises: what cannot be traced must not disturb the run."""

    @property
    def kind(self) -> SpanKind:
        """What it is of."""

    @property
    def parent(self) -> "Span | None":
        """The span around it in this process; None where that is in another one."""

    @property
    def ids(self) -> tuple[str, str] | None:
        """The trace id and the span id in lower hexadecimal digits; None where it is not recorded."""

    def current(self) -> AbstractContextManager[None]:
        """Make it the current span of OpenTelemetry in here, so that instrumented clients are traced under it."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add attributes: names without the product's prefix, and numbers, texts, booleans or lists of one of these."""

    def saved(self, index: int | None = None, delivery: int = 1) -> None:
        """Tell that what it came to, or that delivery of an instance, is durable: a span of no length under it."""

    def migrated(self, from_version: str, to_version: str, *, chain_length: int) -> None:
        """Tell that a kept state was brought to another schema by so many migrations: a span of no length under it."""

    def carrier(self, instance_count: int) -> Carrier:
        """What the instances of this fan-out node's span are traced by, wherever they run."""

    def dispatched(self, index: int, delivery: int) -> None:
        """Tell that an instance of this fan-out node's span was sent on its way.

        Where it has a trace of its own, the delivery is linked that is durable, or the last one that was sent.
        """

    def end(self, error: ErrorRecord | None = None) -> None:
        """End it, with an error status where there is an error; once more does nothing."""


class NoSpan:
    """The span where nothing is traced."""

    kind = SpanKind.CALL
    parent: Span | None = None
    ids: tuple[str, str] | None = None

    def current(self) -> AbstractContextManager[None]:
        return nullcontext()

    def note(self, _facts: Mapping[str, Any]) -> None:
        return None

    def saved(self, _index: int | None = None, _delivery: int = 1) -> None:
        return None

    def migrated(self, _from_version: str, _to_version: str, *, chain_length: int) -> None:
        return None

    def carrier(self, _instance_count: int) -> Carrier:
        return {}

    def dispatched(self, _index: int, _delivery: int) -> None:
        return None

    def end(self, _error: ErrorRecord | None = None) -> None:
        return None


NO_SPAN = NoSpan()
