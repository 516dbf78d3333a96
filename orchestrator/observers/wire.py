"""Events as JSON text, for the way from a worker to the orchestrator."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from orchestrator.codec import Codec
from orchestrator.errors import StateValidationError
from orchestrator.graph.enclosing import graphs_along
from orchestrator.middleware.cause_chain import error_record
from orchestrator.middleware.rebuilding import rebuilt
from orchestrator.observers.emitter import Path
from orchestrator.observers.event import CaughtException, Event, FailureIsolatedEvent, NodeEvent, Phase
from orchestrator.reading import read_json, refusing, sound
from orchestrator.report import CauseLink, ErrorRecord

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

_CHAINS = ("namespace", "fan_out_index_chain", "branch_name_chain")
_PLACE = (*_CHAINS, "attempt_index")


@dataclass(frozen=True, slots=True)
class _Told:
    """What every event says of where it happened."""

    path: Path
    step: int
    namespace: tuple[str, ...]
    fan_out_index_chain: tuple[int | None, ...]
    branch_name_chain: tuple[str | None, ...]
    attempt_index: int


def encode(event: Event, path: Path) -> str:
    """An event of an instance as text; the states are those of the typed codec."""
    told: dict[str, Any] = {"path": path, "step": event.step, **{name: getattr(event, name) for name in _PLACE}}
    match event:
        case NodeEvent():
            told |= _node_event(event)
        case FailureIsolatedEvent():
            told |= _failure_isolated(event)
    return json.dumps(told, separators=(",", ":"))


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
            return _decoded(read_json(text), graph, invoked=invoked, parents=parents, step_of=step_of)
        except StateValidationError as error:
            raise ValueError(f"not an event: {error}") from error


def _decoded(
    told: dict[str, Any],
    graph: "Graph[Any]",
    *,
    invoked: Mapping[str, str],
    parents: Sequence[Any],
    step_of: Callable[[int], int],
) -> tuple[Event, Path]:
    path = tuple(told["path"])
    place = {**{name: tuple(told[name]) for name in _CHAINS}, "attempt_index": told["attempt_index"]}
    sound(_Told(path=path, step=told["step"], **place))
    graphs = graphs_along(graph, path)
    facts = {
        **invoked,
        **place,
        "step": step_of(told["step"]),
        "pre_state": graphs[-1].codec.load(told["pre_state"]),
    }
    if "phase" not in told:
        return _caught(told, facts), path
    inner = told["parent_states"]
    enclosing = graphs[:-1][len(graphs) - 1 - len(inner) :]
    own = tuple(graph.codec.load(state) for graph, state in zip(enclosing, inner, strict=True))
    return _node_event_of(told, facts, codec=graphs[-1].codec, parents=(*parents, *own)), path


def _node_event(event: NodeEvent) -> dict[str, Any]:
    codec: Codec[Any] = Codec.of(type(event.pre_state))
    return {
        "phase": event.phase.value,
        "pre_state": codec.dump(event.pre_state),
        "post_state": None if event.post_state is None else codec.dump(event.post_state),
        "error": None if event.error is None else error_record(event.error).to_json(),
        "parent_states": [Codec.of(type(state)).dump(state) for state in event.parent_states],
    }


def _failure_isolated(event: FailureIsolatedEvent) -> dict[str, Any]:
    codec: Codec[Any] = Codec.of(type(event.pre_state))
    caught = event.caught_exception
    return {
        "event_name": event.event_name,
        "pre_state": codec.dump(event.pre_state),
        "post_state": to_jsonable_python(dict(event.post_state), fallback=repr),
        "caught": [caught.category, caught.message, [to_jsonable_python(link) for link in caught.chain]],
    }


def _node_event_of(
    told: Mapping[str, Any], facts: Mapping[str, Any], *, codec: Codec[Any], parents: tuple[Any, ...]
) -> NodeEvent:
    return NodeEvent(
        **facts,
        phase=Phase(told["phase"]),
        post_state=None if told["post_state"] is None else codec.load(told["post_state"]),
        error=None if told["error"] is None else rebuilt(sound(ErrorRecord.from_json(told["error"]))),
        parent_states=parents,
    )


def _caught(told: Mapping[str, Any], facts: Mapping[str, Any]) -> FailureIsolatedEvent:
    category, message, chain = told["caught"]
    caught = CaughtException(category=category, message=message, chain=tuple(CauseLink(**link) for link in chain))
    if not isinstance(told["post_state"], dict) or not isinstance(told["event_name"], str):
        raise TypeError("its name or its state")
    sound(caught)
    return FailureIsolatedEvent(
        **facts, event_name=told["event_name"], post_state=told["post_state"], caught_exception=caught
    )
