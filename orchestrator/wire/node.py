"""How events of nodes travel."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import to_jsonable_python

from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.middleware.cause_chain import error_record
from orchestrator.middleware.rebuilding import rebuilt
from orchestrator.observers.event import CaughtException, FailureIsolatedEvent, NodeEvent, Phase
from orchestrator.reading import read_time, sound
from orchestrator.wire.origin import Origin
from orchestrator.wire.state import plain_value, state_field, state_from

_PLAIN = ("duration_seconds", "delivery", "worker")


@dataclass(frozen=True, slots=True)
class _Facts:
    at: datetime
    duration_seconds: float | None
    delivery: int
    worker: str | None


def node_fields(event: NodeEvent) -> dict[str, Any]:
    """The own fields of an event of a node, as JSON."""
    return {
        "step": event.step,
        "phase": event.phase.value,
        "pre_state": state_field(event.pre_state),
        "post_state": None if event.post_state is None else state_field(event.post_state),
        "error": None if event.error is None else error_record(event.error).to_json(),
        "parent_states": [state_field(state) for state in event.parent_states],
        "at": event.at.isoformat(),
        **{name: getattr(event, name) for name in _PLAIN},
    }


def node_event(told: Mapping[str, Any], place: Mapping[str, Any], origin: Origin) -> NodeEvent:
    """The event from its own fields and its place again."""
    codec, inner = origin.graphs[-1].codec, told["parent_states"]
    enclosing = origin.graphs[:-1][len(origin.graphs) - 1 - len(inner) :]
    own = tuple(state_from(state, graph.codec) for graph, state in zip(enclosing, inner, strict=True))
    return NodeEvent(
        **place,
        step=origin.step(told["step"]),
        phase=Phase(told["phase"]),
        pre_state=state_from(told["pre_state"], codec),
        post_state=None if told["post_state"] is None else state_from(told["post_state"], codec),
        error=None if told["error"] is None else rebuilt(sound(ErrorRecord.from_json(told["error"]))),
        parent_states=(*origin.parents, *own),
        **_facts(told),
    )


def _facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """When and by whom; a worker of an older version does not say."""
    if "at" not in told:
        return {}
    facts = _Facts(read_time(told["at"]), **{name: told[name] for name in _PLAIN})
    return {name: getattr(sound(facts), name) for name in ("at", *_PLAIN)}


def failure_isolated_fields(event: FailureIsolatedEvent) -> dict[str, Any]:
    """The own fields of a caught failure, as JSON."""
    caught = event.caught_exception
    return {
        "step": event.step,
        "event_name": event.event_name,
        "pre_state": state_field(event.pre_state),
        "post_state": {name: plain_value(value) for name, value in event.post_state.items()},
        "caught": [caught.category, caught.message, [to_jsonable_python(link) for link in caught.chain]],
    }


def failure_isolated_event(told: Mapping[str, Any], place: Mapping[str, Any], origin: Origin) -> FailureIsolatedEvent:
    """The event from its own fields and its place again."""
    category, message, chain = told["caught"]
    caught = CaughtException(category=category, message=message, chain=tuple(CauseLink(**link) for link in chain))
    if not isinstance(told["post_state"], dict) or not isinstance(told["event_name"], str):
        raise TypeError("its name or its state")
    return FailureIsolatedEvent(
        **place,
        step=origin.step(told["step"]),
        pre_state=state_from(told["pre_state"], origin.graphs[-1].codec),
        event_name=told["event_name"],
        post_state=told["post_state"],
        caught_exception=sound(caught),
    )
