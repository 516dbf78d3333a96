"""What a model answered, as a value."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backends.llm.reply import Reply
from orchestrator.llm.event import Usage

MAX_NAME_CHARACTERS = 256


class Completion(BaseModel):
    """What a model answered; its printed form shows none of it.

    `parsed` is the instance of the `response_model`, where one was asked for. `tool_calls` are as the server sent
    them. `rate_limit` holds the headers that say what is left, by their names after `x-ratelimit-`.
    """

    model_config = ConfigDict(frozen=True)

    text: str | None = Field(default=None, repr=False)
    parsed: Any = Field(default=None, repr=False)
    tool_calls: tuple[dict[str, Any], ...] = Field(default=(), repr=False)
    refusal: str | None = Field(default=None, repr=False)
    finish_reason: str | None = None
    model: str | None = None
    id: str | None = None
    usage: Usage = Usage()
    rate_limit: dict[str, str] = {}


def completion_of(body: Any, reply: Reply) -> Completion:
    """The completion that the body of an answer holds.

    Raises:
        ValueError: it holds none; the message says which part is wrong, and shows nothing of it.
    """
    choice = _part(_first(_part(body, "the body").get("choices")), "its first choice")
    message = _part(choice.get("message"), "its message")
    return Completion(
        text=_text(message.get("content")),
        tool_calls=_tool_calls(message.get("tool_calls")),
        refusal=_name(message.get("refusal"), MAX_NAME_CHARACTERS * 16),
        finish_reason=_name(choice.get("finish_reason")),
        model=_name(body.get("model")),
        id=_name(body.get("id")),
        usage=_usage(body.get("usage")),
        rate_limit=_rate_limit(reply.headers),
    )


def _first(choices: Any) -> Any:
    return choices[0] if isinstance(choices, list) and choices else None


def _part(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value


def _text(content: Any) -> str | None:
    """The text of a message, which some servers send in parts."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("its content is no text")
    return "".join(
        str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text"
    )


def _tool_calls(calls: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(calls, list | None):
        raise ValueError("its tool calls are no list")
    return tuple(_part(call, "a tool call") for call in calls or ())


def _usage(usage: Any) -> Usage:
    told = usage if isinstance(usage, dict) else {}
    return Usage(
        prompt_tokens=_count(told.get("prompt_tokens")),
        completion_tokens=_count(told.get("completion_tokens")),
        total_tokens=_count(told.get("total_tokens")),
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None


def _name(value: Any, longest: int = MAX_NAME_CHARACTERS) -> str | None:
    return value[:longest].encode(errors="replace").decode() if isinstance(value, str) else None


def _rate_limit(headers: Mapping[str, str]) -> dict[str, str]:
    prefix = "x-ratelimit-"
    return {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}
