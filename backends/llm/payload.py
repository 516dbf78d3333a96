"""What was said to a model and by it, as it is shown to those who asked for that."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backends.llm.completion import Completion
from orchestrator.redaction import redacted

CUT = "[...]"
TEXT = "text"


def shown_messages(messages: Sequence[Mapping[str, Any]], limit_bytes: int) -> str:
    """Messages as JSON text in the form of the GenAI conventions; of other content than text only the kind."""
    told = [{"role": str(one.get("role", "")), "parts": _parts(one)} for one in messages]
    return _bounded(_json(told), limit_bytes)


def shown_answer(completion: Completion, limit_bytes: int) -> str:
    """What a model answered, in the same form."""
    parts = [*_text_parts(completion.text), *_call_parts(completion.tool_calls)]
    told = {"role": "assistant", "parts": parts, "finish_reason": completion.finish_reason}
    return _bounded(_json([told]), limit_bytes)


def shown_text(text: str, limit_bytes: int) -> str:
    """A text without secrets, and not too long."""
    return _bounded(redacted(text), limit_bytes)


def blocks_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The kinds of content in these messages, beside text."""
    kinds = (str(block.get("type")) for one in messages for block in _blocks(one.get("content")))
    return tuple(dict.fromkeys(kind for kind in kinds if kind != TEXT))


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    parts = _text_parts(content) if isinstance(content, str) else [_block_part(block) for block in _blocks(content)]
    return [*parts, *_call_parts(message.get("tool_calls") or ())]


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list | tuple) else []


def _text_parts(text: str | None) -> list[dict[str, Any]]:
    return [] if text is None else [{"type": TEXT, "content": redacted(text)}]


def _block_part(block: Mapping[str, Any]) -> dict[str, Any]:
    if block.get("type") == TEXT:
        return {"type": TEXT, "content": redacted(str(block.get(TEXT, "")))}
    return {"type": str(block.get("type"))}


def _call_parts(calls: Iterable[Any]) -> list[dict[str, Any]]:
    return [_call_part(call) for call in calls if isinstance(call, Mapping)]


def _call_part(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    told = function if isinstance(function, Mapping) else {}
    arguments = redacted(str(told.get("arguments", "")))
    return {"type": "tool_call", "id": str(call.get("id")), "name": str(told.get("name")), "arguments": arguments}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bounded(text: str, limit_bytes: int) -> str:
    raw = text.encode(errors="replace")
    if len(raw) <= limit_bytes:
        return raw.decode()
    return raw[: max(limit_bytes - len(CUT), 0)].decode(errors="ignore") + CUT
