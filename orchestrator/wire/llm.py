"""How calls of models travel."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from orchestrator.error_record import ErrorRecord
from orchestrator.llm.event import LlmCompletionEvent, LlmEvent, LlmFailedEvent, Usage
from orchestrator.reading import sound
from orchestrator.wire.origin import Origin

E = TypeVar("E", bound=LlmEvent)

_PLAIN = (
    "provider",
    "model",
    "duration_seconds",
    "call_attempt_index",
    "messages",
    "response_model",
    "response_id",
    "finish_reason",
    "text",
)
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def completion_fields(event: LlmCompletionEvent) -> dict[str, Any]:
    """The own fields of an event, as JSON."""
    return _fields(event)


def completion_event(told: Mapping[str, Any], place: Mapping[str, Any], origin: Origin) -> LlmCompletionEvent:
    """The event from its own fields and its place again."""
    return _event(LlmCompletionEvent, told, place, origin)


def failed_fields(event: LlmFailedEvent) -> dict[str, Any]:
    """The own fields of an event, as JSON."""
    return {**_fields(event), "error": event.error.to_json()}


def failed_event(told: Mapping[str, Any], place: Mapping[str, Any], origin: Origin) -> LlmFailedEvent:
    """The event from its own fields and its place again."""
    return _event(LlmFailedEvent, told, place, origin, error=ErrorRecord.from_json(told["error"]))


def _fields(event: LlmEvent) -> dict[str, Any]:
    return {
        **{name: getattr(event, name) for name in _PLAIN},
        "step": event.step,
        "parameters": dict(event.parameters),
        "usage": [getattr(event.usage, name) for name in _COUNTS],
    }


def _event(kind: Callable[..., E], told: Mapping[str, Any], place: Mapping[str, Any], origin: Origin, **own: Any) -> E:
    event = kind(
        **place,
        **{name: told[name] for name in _PLAIN},
        step=origin.step(told["step"]),
        parameters={name: tuple(one) if isinstance(one, list) else one for name, one in told["parameters"].items()},
        usage=Usage(**dict(zip(_COUNTS, told["usage"], strict=True))),
        **own,
    )
    return sound(event)
