"""What observers are told."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from orchestrator.capture.line import LogLine
from orchestrator.error_record import CauseLink, ErrorRecord


class Phase(StrEnum):
    """The kinds of events that an observer subscribes to."""

    STARTED = "started"
    COMPLETED = "completed"
    CHECKPOINT_SAVED = "checkpoint_saved"
    INSTANCE = "instance"
    INVOCATION = "invocation"
    LLM = "llm"
    LOGGED = "logged"

    @property
    def travels(self) -> bool:
        """Whether instances tell of it from where they run; of the others the orchestrator knows by itself."""
        return self not in (Phase.CHECKPOINT_SAVED, Phase.INVOCATION)


NODE_PHASES = frozenset({Phase.STARTED, Phase.COMPLETED})


class SaveKind(StrEnum):
    """What became durable."""

    NODE = "node"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something happens: in which invocation of which run, and where in the graph.

    `namespace` holds the names of the enclosing nodes and the node's own, last. The two chains are aligned to the
    enclosing nodes, outermost first: the index of the instance, or the name of the branch, of that node that this
    place is inside of; None where there is neither.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    namespace: tuple[str, ...]
    fan_out_index_chain: tuple[int | None, ...] = ()
    branch_name_chain: tuple[str | None, ...] = ()
    attempt_index: int = 0

    @property
    def node_name(self) -> str:
        """The node's own name; empty for a whole invocation."""
        return self.namespace[-1] if self.namespace else ""

    @property
    def fan_out_index(self) -> int | None:
        """The index in the innermost fan-out; None outside any."""
        return next((index for index in reversed(self.fan_out_index_chain) if index is not None), None)

    @property
    def branch_name(self) -> str | None:
        """The innermost branch; None outside any."""
        return next((name for name in reversed(self.branch_name_chain) if name is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Place):
    """Something that happened there. Each kind is a class of its own; one that travels has an entry in `wire.py`."""

    @property
    def phases(self) -> frozenset[Phase]:
        """Whoever has subscribed to one of them is told."""
        return NODE_PHASES

    @property
    def sameness(self) -> Hashable:
        """What it has in common, beside the place, with the event of a delivery that goes the same way again."""
        return type(self).__name__


@dataclass(frozen=True, slots=True)
class StateLeftOut:
    """Stands in an event for a state that could not travel from where its instance ran; `reason` names the field."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent(Event):
    """An attempt at a node has started, or is over: then with the state after it, or with the error.

    `step` counts the executed nodes of an invocation and is the same in all events of one execution. `parent_states`
    are the states of the enclosing graphs when this one was entered, outermost first. Of an instance, a state that the
    codec refuses is a `StateLeftOut`. `at` is by the clock of where it ran; `delivery` and `worker` are those of the
    instance that it ran in, 0 and None outside any; an attempt that is over says how long it took.
    """

    phase: Phase
    step: int
    pre_state: Any
    post_state: Any = None
    error: BaseException | None = None
    parent_states: tuple[Any, ...] = ()
    at: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)
    duration_seconds: float | None = field(default=None, compare=False)
    delivery: int = 0
    worker: str | None = None

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({self.phase})

    @property
    def sameness(self) -> Hashable:
        return self.phase


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtException:
    """What was caught: the category and the message of the link that says what happened, and the whole chain."""

    category: str | None
    message: str
    chain: tuple[CauseLink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureIsolatedEvent(Event):
    """A failure was caught, and a degraded update put in place of what failed. Whoever is told of nodes is told.

    The place is the node's; around a whole instance or branch it is the fan-out's or the dispatcher's, and the chains
    end with the instance or the branch itself. `post_state` is the degraded partial update. Of an instance, `pre_state`
    may be a `StateLeftOut`, and what JSON cannot carry of the update is text.
    """

    event_name: str
    step: int
    pre_state: Any
    post_state: Mapping[str, Any]
    caught_exception: CaughtException


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSavedEvent(Event):
    """A completed node, or an instance's end, is durable. Only observers that ask for this phase are told."""

    save_kind: SaveKind
    step: int

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({Phase.CHECKPOINT_SAVED})


class InstanceState(StrEnum):
    """Where an instance stands. A lost delivery is no end: the instance runs again, or fails."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CACHED = "CACHED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more comes of the instance in this invocation."""
        return self in _TERMINAL


_TERMINAL = frozenset({InstanceState.SUCCESS, InstanceState.FAILED, InstanceState.CACHED, InstanceState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEvent(Event):
    """An instance has come to a state. Only observers that ask for this phase are told.

    The place is the fan-out's, and the chains end with the instance itself. `key` and `tags` are what people call it.
    `attempts` counts the tries under retry middleware, `delivery` how often a worker was handed it. `at` is by the
    clock of the process where it happened. An instance is CACHED that ended in an earlier invocation of its run.
    """

    state: InstanceState
    key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    delivery: int = 0
    worker: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    duration_seconds: float | None = None
    error: ErrorRecord | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more comes of the instance in this invocation."""
        return self.state.is_terminal

    @property
    def phases(self) -> frozenset[Phase]:
        return _INSTANCE

    @property
    def sameness(self) -> Hashable:
        return (self.state, self.delivery)


_INSTANCE = frozenset({Phase.INSTANCE})


class InvocationState(StrEnum):
    """How far an invocation is: begun, or at its end; one that was left is for another orchestrator to go on with."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationEvent(Event):
    """An invocation has begun or ended, the first or the last of its events. Only observers that ask are told."""

    namespace: tuple[str, ...] = ()
    graph: str
    state: InvocationState

    @property
    def has_ended(self) -> bool:
        return self.state is not InvocationState.STARTED

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({Phase.INVOCATION})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLogEvent(Event):
    """An instance has put out lines. Only observers that ask for this phase are told.

    The place is the fan-out's, and the chains end with the instance itself. Each delivery is a `source` of its own,
    whose lines are numbered from 1; those of a delivery that was lost were told as far as they had come.
    """

    key: str | None = None
    delivery: int
    worker: str
    source: str
    first_number: int
    lines: tuple[LogLine, ...]

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({Phase.LOGGED})

    @property
    def sameness(self) -> Hashable:
        return (self.source, self.first_number)
