"""What observers are told of calls of models."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.error_record import ErrorRecord
from orchestrator.observers.event import Event, Phase

_LLM = frozenset({Phase.LLM})

Parameters = Mapping[str, str | int | float | bool | tuple[str, ...]]
"""What was asked of a model beside the messages, by the names of the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens that a call took, as the server counts them; None where it does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmEvent(Event):
    """A call of a model is over; only observers that ask for this phase are told.

    The place and the step are those of the node attempt that made it, or of the node, instance or branch whose
    middleware did. `provider` names the kind of API, `model` the one that was asked for. `call_attempt_index` counts
    the tries that the call itself makes. What was answered is None where nothing was, or where the server does not
    say. `messages` (JSON text) and `text`, what the model said, are there where the provider shows payload, and may
    be cut.
    """

    step: int
    provider: str
    model: str
    duration_seconds: float
    parameters: Parameters = field(default_factory=dict)
    call_attempt_index: int = 0
    messages: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    text: str | None = None

    @property
    def phases(self) -> frozenset[Phase]:
        return _LLM


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCompletionEvent(LlmEvent):
    """The model answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmFailedEvent(LlmEvent):
    """The call failed, what was answered cannot be used, or the call was cancelled."""

    error: ErrorRecord
