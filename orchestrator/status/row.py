"""One row of what became of instances and of nodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from orchestrator.error_record import ErrorRecord
from orchestrator.identity import Level
from orchestrator.middleware.cause_chain import error_record
from orchestrator.observers.event import Event, InstanceEvent, InstanceState, NodeEvent, Phase, Place
from orchestrator.redaction import redacted

LONGEST_MESSAGE = 2000


@dataclass(slots=True, kw_only=True)
class StatusRow:
    """An instance, or an attempt at a node, has come to a state; a row is not changed once it is made.

    Args:
        sequence: the store's number; rows are read in its order, whatever their times are.
        node: the names of the enclosing nodes and the node's own, last; an instance's is that of its fan-out.
        lineage: the instances and branches around this place, outermost first; an instance itself is the last.
        index: that of the innermost instance; None outside any.
        attempt: which try it is, from 0, under retry middleware.
        delivery: how often a worker was handed the instance; 0 outside any, and where nobody was.
        at: by the clock of the process where it happened.
        duration_seconds: of an instance or an attempt at a node that has ended.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    node: tuple[str, ...]
    lineage: tuple[Level, ...] = ()
    index: int | None = None
    key: str | None = None
    state: InstanceState
    attempt: int = 0
    delivery: int = 0
    worker: str | None = None
    at: datetime
    duration_seconds: float | None = None
    error_category: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 0

    @property
    def node_path(self) -> str:
        """The node as people read it: `outer/files`."""
        return "/".join(self.node)

    @property
    def subject(self) -> tuple[Any, ...]:
        """What the row is of: the rows of one instance, or of one node in one place, have it in common."""
        return (self.run_id, self.node, self.lineage)

    @property
    def told(self) -> tuple[Any, ...]:
        """All that it says but its sequence: rows that have that in common are one, kept more than once."""
        return (*_TOLD_OF(self), frozenset(self.tags.items()))


_TOLD_OF = attrgetter(*(one.name for one in fields(StatusRow) if one.name not in ("sequence", "tags")))


def row_of(event: Event) -> StatusRow | None:
    """The row that an event comes to, if it comes to any."""
    match event:
        case InstanceEvent():
            return _of_instance(event)
        case NodeEvent():
            return _of_node(event)
    return None


def _of_instance(event: InstanceEvent) -> StatusRow:
    category, kind, message = _error(event.error)
    return StatusRow(
        run_id=event.run_id,
        invocation_id=event.invocation_id,
        correlation_id=event.correlation_id,
        node=event.namespace,
        lineage=_lineage(event, event.namespace),
        index=event.fan_out_index,
        key=None if event.key is None else sound_text(event.key),
        state=event.state,
        attempt=max(event.attempts - 1, 0),
        delivery=event.delivery,
        worker=event.worker,
        at=event.at,
        duration_seconds=event.duration_seconds,
        error_category=category,
        error_type=kind,
        error_message=message,
        tags={name: sound_text(event.tags[name]) for name in event.tags},
    )


def _of_node(event: NodeEvent) -> StatusRow:
    error = None if event.error is None else error_record(event.error, with_traceback=False)
    category, kind, message = _error(error)
    if event.phase is Phase.STARTED:
        state = InstanceState.RETRYING if event.attempt_index else InstanceState.RUNNING
    else:
        state = InstanceState.SUCCESS if error is None else InstanceState.FAILED
    return StatusRow(
        run_id=event.run_id,
        invocation_id=event.invocation_id,
        correlation_id=event.correlation_id,
        node=event.namespace,
        lineage=_lineage(event, event.namespace[:-1]),
        index=event.fan_out_index,
        state=state,
        attempt=event.attempt_index,
        delivery=event.delivery,
        worker=event.worker,
        at=event.at,
        duration_seconds=event.duration_seconds,
        error_category=category,
        error_type=kind,
        error_message=message,
    )


def _lineage(event: Place, around: tuple[str, ...]) -> tuple[Level, ...]:
    chains = zip(around, event.fan_out_index_chain, event.branch_name_chain, strict=True)
    return tuple([Level(*level) for level in chains if level[1] is not None or level[2] is not None])


def _error(error: ErrorRecord | None) -> tuple[str | None, str | None, str | None]:
    if error is None:
        return None, None, None
    message = sound_text(redacted(error.message))
    short = message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 3]}..."
    return error.shown_category, error.type, short


def sound_text(text: str) -> str:
    """A text that every database can keep: what it could not is escaped."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
