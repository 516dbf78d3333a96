"""What is asked of a model, as it is sent and as it is told."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from backends.llm.error import ProviderInvalidRequest
from backends.llm.payload import blocks_of, shown_messages
from backends.llm.setting import ChatSettings, Server
from backends.llm.structured import response_format
from orchestrator.llm.call import ModelRequest
from orchestrator.redaction import redacted

Message = Mapping[str, Any]

MAX_PARAMETER_CHARACTERS = 256

# Those that say how something is asked, and nothing of what is.
_TOLD = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "n",
    "reasoning_effort",
)


@dataclass(frozen=True, slots=True)
class Question:
    """Messages to a model, and how it is to answer them."""

    model: str
    messages: Sequence[Message]
    parameters: Mapping[str, Any]
    response_model: type[BaseModel] | None = None

    @property
    def blocks(self) -> tuple[str, ...]:
        """The kinds of content, beside text, that it holds."""
        return blocks_of(self.messages)

    def content(self, server: Server) -> bytes:
        """What is sent.

        Raises:
            ProviderInvalidRequest: it is no JSON, or asks for what is not supported here.
        """
        if self.parameters.get("stream"):
            raise ProviderInvalidRequest(str(server), "stream is not supported")
        form = {} if self.response_model is None else {"response_format": response_format(self.response_model)}
        try:
            body = {"model": self.model, "messages": [dict(one) for one in self.messages], **form, **self.parameters}
            return json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            # What they say shows what was to be sent.
            raise ProviderInvalidRequest(str(server), "messages and parameters must be JSON") from None

    def told(self, server: Server, settings: ChatSettings) -> ModelRequest:
        """What spans and events say of it."""
        is_json = self.response_model is not None or "response_format" in self.parameters
        return ModelRequest(
            provider=settings.provider,
            model=str(self.parameters.get("model", self.model)),
            server_address=server.address,
            server_port=server.port,
            parameters=_told_parameters(self.parameters),
            output_type="json" if is_json else "text",
            messages=shown_messages(self.messages, settings.payload_max_bytes) if settings.payload else None,
        )


def _told_parameters(parameters: Mapping[str, Any]) -> dict[str, str | int | float | bool | tuple[str, ...]]:
    stop = parameters.get("stop")
    given = {**parameters, "stop": [stop]} if isinstance(stop, str) else parameters
    told = {name: _told(given[name]) for name in _TOLD if name in given}
    return {name: value for name, value in told.items() if value is not None}


def _told(value: Any) -> str | int | float | bool | tuple[str, ...] | None:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redacted(value)[:MAX_PARAMETER_CHARACTERS]
    if isinstance(value, list | tuple):
        return tuple(redacted(one)[:MAX_PARAMETER_CHARACTERS] for one in value if isinstance(one, str))
    return None
