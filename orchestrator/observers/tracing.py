"""Tracing: spans are opened where the work is, by the process that does it, and are current there."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orchestrator.report import ErrorRecord

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame
    from orchestrator.observers.site import Site

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

    def saved(self, index: int | None = None) -> None:
        """Tell that what it came to, or that instance of it, is durable: a span of no length under this one."""

    def carrier(self, instance_count: int) -> Carrier:
        """What the instances of this fan-out node's span are traced by, wherever they run."""

    def dispatched(self, index: int) -> None:
        """Tell that an instance of this fan-out node's span was sent on its way: a trace of its own is linked."""

    def end(self, error: ErrorRecord | None = None) -> None:
        """End it, with an error status where there is an error; once more does nothing."""


@runtime_checkable
class Tracing(Protocol):
    """Opens spans. One object serves any number of invocations at once; none of its methods raises."""

    def invocation(self, frame: "Frame") -> Span:
        """The root of one invocation's trace."""

    def node(self, site: "Site", parent: Span) -> Span:
        """One attempt at a node."""

    def branch(self, site: "Site", parent: Span) -> Span:
        """One branch of parallel branches: a whole one with its middleware, or one attempt at a function."""

    def instance(self, site: "Site", carrier: Carrier, facts: Mapping[str, Any]) -> Span:
        """One delivery of an instance, under the fan-out node's span that the carrier comes from."""

    def call(self, name: str, facts: Mapping[str, Any], parent: Span) -> Span:
        """A call of a model or another service; `facts` whose names begin with `gen_ai.` keep these names."""


class NoSpan:
    """The span where nothing is traced."""

    kind = SpanKind.CALL
    parent: Span | None = None
    ids: tuple[str, str] | None = None

    def current(self) -> AbstractContextManager[None]:
        return nullcontext()

    def note(self, _facts: Mapping[str, Any]) -> None:
        return None

    def saved(self, _index: int | None = None) -> None:
        return None

    def carrier(self, _instance_count: int) -> Carrier:
        return {}

    def dispatched(self, _index: int) -> None:
        return None

    def end(self, _error: ErrorRecord | None = None) -> None:
        return None


NO_SPAN = NoSpan()


class Untraced:
    """The tracing where nobody wants any."""

    def invocation(self, _frame: "Frame") -> Span:
        return NO_SPAN

    def node(self, _site: "Site", _parent: Span) -> Span:
        return NO_SPAN

    def branch(self, _site: "Site", _parent: Span) -> Span:
        return NO_SPAN

    def instance(self, _site: "Site", _carrier: Carrier, _facts: Mapping[str, Any]) -> Span:
        return NO_SPAN

    def call(self, _name: str, _facts: Mapping[str, Any], _parent: Span) -> Span:
        return NO_SPAN


_span: ContextVar[Span | None] = ContextVar("rollforward_span", default=None)


def current_span() -> Span:
    """The innermost open span that this code runs in; one of nothing outside any."""
    return _span.get() or NO_SPAN


@contextmanager
def within(span: Span) -> Iterator[None]:
    """Make `span` the current one, here and for instrumented clients."""
    kept = _span.set(span)
    try:
        with span.current():
            yield
    finally:
        _span.reset(kept)


def spread(facts: Mapping[str, Any], span: Span | None) -> None:
    """Add facts to a span and to those around it, as far as they are no other instance's or branch's too.

    From a fork on only instances, branches and subgraphs on the way out get them: the others are shared.
    """
    has_forked = False
    while span is not None:
        is_private = span.kind in (SpanKind.INSTANCE, SpanKind.BRANCH, SpanKind.SUBGRAPH)
        if is_private or not (has_forked or span.kind is SpanKind.FORK):
            span.note(facts)
        has_forked = has_forked or span.kind is SpanKind.FORK
        span = span.parent
