"""Events as JSON text, for the way from a worker to the orchestrator."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StateValidationError
from orchestrator.graph.enclosing import graphs_along
from orchestrator.llm.event import LlmCompletionEvent, LlmFailedEvent
from orchestrator.observers.emitter import Path
from orchestrator.observers.event import Event, FailureIsolatedEvent, InstanceEvent, InstanceLogEvent, NodeEvent
from orchestrator.reading import read_json, refusing, sound
from orchestrator.wire.instance import instance_event, instance_fields
from orchestrator.wire.llm import completion_event, completion_fields, failed_event, failed_fields
from orchestrator.wire.log import log_event, log_fields
from orchestrator.wire.node import failure_isolated_event, failure_isolated_fields, node_event, node_fields
from orchestrator.wire.origin import Origin

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

_CHAINS = ("namespace", "fan_out_index_chain", "branch_name_chain")
_PLACE = (*_CHAINS, "attempt_index")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one class of events travels: its own fields as JSON, and the event from these and its place again."""

    event: type[Event]
    fields: Callable[[Any], dict[str, Any]]
    read: Callable[[Mapping[str, Any], Mapping[str, Any], Origin], Event]


_KINDS: Mapping[str, _Kind] = {
    "node": _Kind(NodeEvent, node_fields, node_event),
    "failure_isolated": _Kind(FailureIsolatedEvent, failure_isolated_fields, failure_isolated_event),
    "llm_completion": _Kind(LlmCompletionEvent, completion_fields, completion_event),
    "llm_failed": _Kind(LlmFailedEvent, failed_fields, failed_event),
    "instance": _Kind(InstanceEvent, instance_fields, instance_event),
    "logged": _Kind(InstanceLogEvent, log_fields, log_event),
}
_NAMES = {kind.event: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class _Told:
    """What every event says of where it happened."""

    path: Path
    namespace: tuple[str, ...]
    fan_out_index_chain: tuple[int | None, ...]
    branch_name_chain: tuple[str | None, ...]
    attempt_index: int


def encode(event: Event, path: Path) -> str:
    """An event of an instance as text; the states are those of the typed codec."""
    name = _NAMES[type(event)]
    place = {field: getattr(event, field) for field in _PLACE}
    return json.dumps({"kind": name, "path": path, **place, **_KINDS[name].fields(event)}, separators=(",", ":"))


def decode(
    text: str,
    graph: "Graph[Any]",
    *,
    invoked: Mapping[str, str],
    parents: Sequence[Any],
    step_of: Callable[[int], int],
) -> tuple[Event, Path]:
    """The event again, as the orchestrator tells it.

    Args:
        text: what `encode` gave.
        graph: the registered graph.
        invoked: which invocation of which run it belongs to.
        parents: the states around the instance, outermost first.
        step_of: the orchestrator's number for a step of the instance's.

    Raises:
        ValueError: it is no event of this graph.
    """
    with refusing("an event"):
        try:
            told = read_json(text)
            path = tuple(told["path"])
            place = {**{name: tuple(told[name]) for name in _CHAINS}, "attempt_index": told["attempt_index"]}
            sound(_Told(path=path, **place))
            origin = Origin(graphs_along(graph, path), parents, step_of)
            return _KINDS[told["kind"]].read(told, {**invoked, **place}, origin), path
        except StateValidationError as error:
            raise ValueError(f"not an event: {error}") from error
