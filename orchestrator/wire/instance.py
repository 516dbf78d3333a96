"""How the states of instances travel."""

from collections.abc import Mapping
from typing import Any

from orchestrator.error_record import ErrorRecord
from orchestrator.observers.event import InstanceEvent, InstanceState
from orchestrator.reading import read_time, sound
from orchestrator.wire.origin import Origin

_PLAIN = ("state", "key", "attempts", "delivery", "worker", "duration_seconds")


def instance_fields(event: InstanceEvent) -> dict[str, Any]:
    """The own fields of an event, as JSON."""
    return {
        **{name: getattr(event, name) for name in _PLAIN},
        "tags": dict(event.tags),
        "at": event.at.isoformat(),
        "started_at": None if event.started_at is None else event.started_at.isoformat(),
        "error": None if event.error is None else event.error.to_json(),
    }


def instance_event(told: Mapping[str, Any], place: Mapping[str, Any], _origin: Origin) -> InstanceEvent:
    """The event from its own fields and its place again."""
    started_at, error = told["started_at"], told["error"]
    event = InstanceEvent(
        **place,
        **{name: told[name] for name in _PLAIN if name != "state"},
        state=InstanceState(told["state"]),
        tags=told["tags"],
        at=read_time(told["at"]),
        started_at=None if started_at is None else read_time(started_at),
        error=None if error is None else ErrorRecord.from_json(error),
    )
    if not event.fan_out_index_chain or event.fan_out_index_chain[-1] is None:
        raise ValueError("its index")
    return sound(event)
