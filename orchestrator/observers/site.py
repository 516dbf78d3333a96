"""Where user code runs, so that what happens there can be told: a node attempt, a whole instance, a whole branch."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.context import current_attempt_index
from orchestrator.error_record import ErrorRecord
from orchestrator.graph.node import BranchSpec, FunctionNode
from orchestrator.holding import Holding
from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link, error_record
from orchestrator.observers.event import (
    NODE_PHASES,
    CaughtException,
    CheckpointSavedEvent,
    Event,
    FailureIsolatedEvent,
    NodeEvent,
    Phase,
    SaveKind,
)
from orchestrator.tracing.current import current_span
from orchestrator.tracing.span import CANCELLED, NO_SPAN, Span, as_step_failure

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame
    from orchestrator.graph.node import Node


@dataclass(slots=True, kw_only=True)
class Site:
    """One execution of a node behind its middleware, or of a whole instance or branch behind theirs.

    The attempts of a node are a pair of events each. One that raised is completed when the next one starts, when its
    failure was isolated, or when the middleware gave up: a middleware that recovers makes it a success.
    `is_silent` where only what is inside has events. `subject` is what each attempt has a span of, None for nothing.
    """

    frame: "Frame"
    namespace: tuple[str, ...]
    subject: "Node | BranchSpec | None" = None
    is_silent: bool = False
    attempt_index: int = 0
    step: int = field(init=False)
    span: Span = field(default=NO_SPAN, init=False)
    tries: int = field(default=0, init=False)
    _pre_state: Any = None
    _began: float = 0.0
    _is_open: bool = False
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        self.step = -1

    def started(self, state: Any) -> None:
        """An attempt begins."""
        self._close(error=self._error)
        self._tell_instance()
        if self.step < 0 and not self.is_silent:
            self.step = self.frame.emitter.next_step()
        self.attempt_index = current_attempt_index()
        self._pre_state, self._is_open, self._error = state, True, None
        self._began = time.perf_counter()
        self.span = self._opened_span()
        self._emit(Phase.STARTED)

    def failed(self, error: BaseException) -> None:
        """The attempt raised; what that comes to, its middleware decides."""
        self._error = error

    def completed(self, state: Any) -> None:
        """It is over, and this is the state after it."""
        self._close(post_state=state)

    def gave_up(self, error: BaseException) -> None:
        """It is over, and this is what the last attempt came to."""
        self._close(error=error)

    def isolated(self, event_name: str, *, pre_state: Any, post_state: Mapping[str, Any], error: BaseException) -> None:
        """A failure of it was caught; its attempt stays a failure."""
        self._close(error=self._error)
        if self.frame.emitter.wanted.isdisjoint(NODE_PHASES):
            return
        chain = classify_cause_chain(error)
        told = derived_link(chain)
        event = FailureIsolatedEvent(
            **self._facts(),
            event_name=event_name,
            pre_state=pre_state,
            post_state=post_state,
            caught_exception=CaughtException(category=told.category, message=told.message, chain=chain),
        )
        self.frame.emitter.emit(event, self.frame.namespace)

    def saved(self, save_kind: SaveKind) -> None:
        """What it came to is durable."""
        self.span.saved()
        if self.frame.emitter.wants(Phase.CHECKPOINT_SAVED):
            event = CheckpointSavedEvent(**self._facts(), save_kind=save_kind)
            self.frame.emitter.emit(event, self.frame.namespace)

    def tell(self, kind: Callable[..., Event], phase: Phase, **facts: Any) -> None:
        """Tell of something else that happened here, in the attempt that runs; from any thread."""
        if self.frame.emitter.wants(phase):
            place = self._facts() | {"attempt_index": current_attempt_index()}
            self.frame.emitter.emit(kind(**place, **facts), self.frame.namespace)

    def _tell_instance(self) -> None:
        """Another try of something in an instance is one that the instance tells of itself."""
        self.tries += 1
        if self.tries > 1 and self.frame.voice is not None:
            self.frame.voice.retrying(self.tries, self._error)

    def _close(self, *, post_state: Any = None, error: BaseException | None = None) -> None:
        if self._is_open:
            self._is_open = False
            self.span.end(None if error is None else self._told(error))
            self._emit(Phase.COMPLETED, post_state=post_state, error=error)

    def _opened_span(self) -> Span:
        match self.subject:
            case None:
                return NO_SPAN
            case BranchSpec():
                return self.frame.tracing.branch(self, current_span())
            case _:
                return self.frame.tracing.node(self, current_span())

    def _told(self, error: BaseException) -> ErrorRecord | None:
        """What its span says of an error: of a function what it raised, of what runs others that a step failed."""
        if self.span is NO_SPAN:
            return None
        if isinstance(error, asyncio.CancelledError):
            return CANCELLED
        record = error_record(error)
        return record if isinstance(self.subject, FunctionNode) else as_step_failure(record)

    def _emit(self, phase: Phase, *, post_state: Any = None, error: BaseException | None = None) -> None:
        if self.is_silent or not self.frame.emitter.wants(phase):
            return
        event = NodeEvent(
            **self._facts(),
            phase=phase,
            pre_state=self._pre_state,
            post_state=post_state,
            error=error,
            parent_states=self.frame.parents,
            duration_seconds=None if phase is Phase.STARTED else time.perf_counter() - self._began,
            **self._delivered(),
        )
        self.frame.emitter.emit(event, self.frame.namespace)

    def _delivered(self) -> dict[str, Any]:
        """The delivery of the instance that this is in; nothing outside any."""
        voice = self.frame.voice
        return {} if voice is None else {"delivery": voice.work.delivery, "worker": voice.worker}

    def _facts(self) -> dict[str, Any]:
        frame = self.frame
        return {
            "run_id": frame.run_id,
            "invocation_id": frame.invocation_id,
            "correlation_id": frame.correlation_id,
            "namespace": self.namespace,
            "fan_out_index_chain": tuple(level.index for level in frame.levels),
            "branch_name_chain": tuple(level.branch for level in frame.levels),
            "attempt_index": self.attempt_index,
            "step": max(self.step, 0),
        }


def node_site(
    frame: "Frame", name: str, *, subject: "Node | BranchSpec | None" = None, is_silent: bool = False
) -> Site:
    """The site of a node, or of a branch that is a function, in that frame."""
    namespace = (*(level.node for level in frame.levels), name)
    return Site(frame=frame, namespace=namespace, subject=subject, is_silent=is_silent)


def boundary_site(frame: "Frame") -> Site:
    """The site of the whole instance or branch that the frame is."""
    return Site(frame=frame, namespace=tuple(level.node for level in frame.levels), is_silent=True)


_site: ContextVar[Site | None] = ContextVar("rollforward_site", default=None)


class at:
    """Make `site` what middleware tells of in here; what is raised is what its last attempt came to."""

    __slots__ = ("_before", "_site")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._before: Token[Site | None] | None = None

    def __enter__(self) -> None:
        self._before = _site.set(self._site)

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        assert self._before is not None
        _site.reset(self._before)
        if error is not None:
            self._site.gave_up(error)


def outside_nodes() -> Holding[None]:
    """Be in no node in here, though one may have invoked this graph."""
    return Holding(_site, None)


def current_site() -> Site | None:
    """The innermost site; None outside any run."""
    return _site.get()
