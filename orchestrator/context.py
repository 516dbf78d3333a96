"""What user code can ask about where it runs: in nodes, in plain functions run in a thread, in middleware."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import blake2b

from orchestrator.holding import Holding
from orchestrator.identity import FanOutKey, Lineage
from orchestrator.metadata import NOTHING, Metadata
from orchestrator.scope import Scope, scoped


class Cancellation:
    """A wish that work stops; asked for once, from any thread, and never taken back."""

    def __init__(self) -> None:
        self.is_requested = False
        self.reason: str | None = None

    def request(self, reason: str) -> None:
        """Ask the work to stop; the first reason stays."""
        if not self.is_requested:
            self.reason = reason
            self.is_requested = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceContext:
    """Where something runs. `fan_out` and `index` say which instance; they are None outside any fan-out.

    `namespace` holds the names of the enclosing nodes; where it is empty, an instance's is that of its fan-out node.
    `metadata` is what holds when it begins.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    namespace: tuple[str, ...] = ()
    fan_out: FanOutKey | None = None
    index: int | None = None
    item_key: str | None = None
    token: str | None = None
    delivery: int = 1
    cancellation: Cancellation = field(default_factory=Cancellation)
    metadata: Metadata = field(default_factory=lambda: NOTHING)

    @property
    def lineage(self) -> Lineage:
        if self.fan_out is None or self.index is None:
            return ()
        return self.fan_out.enclosing(self.index)

    @property
    def path(self) -> tuple[str, ...]:
        if self.namespace or self.fan_out is None:
            return self.namespace
        return (*self.fan_out.namespace, self.fan_out.node)

    @property
    def idempotency_key(self) -> str:
        place = "" if self.fan_out is None else f"{self.fan_out.to_json()}:{self.index}"
        return blake2b(f"{self.run_id}:{place}".encode(), digest_size=16).hexdigest()


_context: ContextVar[InstanceContext | None] = ContextVar("rollforward_context", default=None)
_attempt: ContextVar[int] = ContextVar("rollforward_attempt", default=0)


@contextmanager
def entered(context: InstanceContext) -> Iterator[Scope]:
    """Make `context` what the accessors below answer from; its attempts are counted from 0."""
    with Holding(_context, context), Holding(_attempt, 0), scoped(context.metadata) as scope:
        yield scope


def attempting(index: int) -> Holding[int]:
    """Make `index` the current attempt in here."""
    return Holding(_attempt, index)


def current_context() -> InstanceContext | None:
    """All that is known about where this runs; None outside any run."""
    return _context.get()


def current_attempt_index() -> int:
    """Which try of the nearest retry middleware this is, from 0; it starts again at every delivery and resume."""
    return _attempt.get()


def current_run_id() -> str | None:
    """The run; None outside any."""
    context = _context.get()
    return None if context is None else context.run_id


def current_invocation_id() -> str | None:
    """The invocation, which is another one after a resume; None outside any run."""
    context = _context.get()
    return None if context is None else context.invocation_id


def current_correlation_id() -> str | None:
    """The caller's join key; None outside any run."""
    context = _context.get()
    return None if context is None else context.correlation_id


def current_namespace() -> tuple[str, ...]:
    """The names of the enclosing nodes, outermost first."""
    context = _context.get()
    return () if context is None else context.path


def current_lineage() -> Lineage:
    """The enclosing fan-out instances, outermost first, this one last; empty outside any fan-out."""
    context = _context.get()
    return () if context is None else context.lineage


def current_fan_out_index() -> int | None:
    """The index of this instance in the innermost fan-out; None outside any."""
    context = _context.get()
    return None if context is None else context.index


def current_item_key() -> str | None:
    """The item's stable name, where its fan-out declares `key`."""
    context = _context.get()
    return None if context is None else context.item_key


def idempotency_key() -> str | None:
    """A key that is the same in every attempt and delivery of this instance, and for no other one.

    All nodes of an instance share it: add the node's name where two of them need a key each. Outside a fan-out it is
    the run's; outside a run it is None.
    """
    context = _context.get()
    return None if context is None else context.idempotency_key


def token() -> str | None:
    """This claim's fencing token; another delivery of the same instance has another one. None outside a fan-out."""
    context = _context.get()
    return None if context is None else context.token


def is_cancelled() -> bool:
    """Whether this work is to stop; a plain function that takes long asks now and then."""
    context = _context.get()
    return context is not None and context.cancellation.is_requested
