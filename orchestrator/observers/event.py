"""What observers are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.report import CauseLink


class Phase(StrEnum):
    """The kinds of events that an observer subscribes to."""

    STARTED = "started"
    COMPLETED = "completed"
    CHECKPOINT_SAVED = "checkpoint_saved"


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
        return self.namespace[-1]

    @property
    def fan_out_index(self) -> int | None:
        """The index in the innermost fan-out; None outside any."""
        return next((index for index in reversed(self.fan_out_index_chain) if index is not None), None)

    @property
    def branch_name(self) -> str | None:
        """The innermost branch; None outside any."""
        return next((name for name in reversed(self.branch_name_chain) if name is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent(Place):
    """An attempt at a node has started, or is over: then with the state after it, or with the error.

    `step` counts the executed nodes of an invocation and is the same in all events of one execution. `parent_states`
    are the states of the enclosing graphs when this one was entered, outermost first.
    """

    phase: Phase
    step: int
    pre_state: Any
    post_state: Any = None
    error: BaseException | None = None
    parent_states: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtException:
    """What was caught: the category and the message of the link that says what happened, and the whole chain."""

    category: str | None
    message: str
    chain: tuple[CauseLink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureIsolatedEvent(Place):
    """A failure was caught, and a degraded update put in place of what failed.

    The place is the node's; around a whole instance or branch it is the fan-out's or the dispatcher's, and the chains
    end with the instance or the branch itself. `post_state` is the degraded partial update.
    """

    event_name: str
    step: int
    pre_state: Any
    post_state: Mapping[str, Any]
    caught_exception: CaughtException


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSavedEvent(Place):
    """A completed node, or an instance's end, is durable. Only observers that ask for this phase are told."""

    save_kind: SaveKind
    step: int


Event = NodeEvent | FailureIsolatedEvent | CheckpointSavedEvent
