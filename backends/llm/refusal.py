"""From the answer of a server that refuses to the error that says why."""

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from backends.llm.error import (
    ProviderAuthentication,
    ProviderError,
    ProviderInvalidModel,
    ProviderInvalidRequest,
    ProviderInvalidResponse,
    ProviderModelNotLoaded,
    ProviderPathUnknown,
    ProviderRateLimit,
    ProviderUnavailable,
    ProviderUnsupportedContentBlock,
)
from backends.llm.patience import retry_after
from backends.llm.reply import Reply
from orchestrator.reading import read_json
from orchestrator.redaction import redacted

MAX_DETAIL_CHARACTERS = 1024
BROKE_OFF = 502
"""What counts as the status where a choice broke off and its error says none."""

_BY_STATUS: Mapping[int, type[ProviderError]] = {
    401: ProviderAuthentication,
    402: ProviderAuthentication,
    403: ProviderAuthentication,
    404: ProviderPathUnknown,
    405: ProviderPathUnknown,
    408: ProviderUnavailable,
    409: ProviderUnavailable,
    415: ProviderUnsupportedContentBlock,
    425: ProviderUnavailable,
    429: ProviderRateLimit,
    501: ProviderInvalidRequest,
}
_BY_CODE: Mapping[str, type[ProviderError]] = {
    "insufficient_quota": ProviderAuthentication,
    "invalid_api_key": ProviderAuthentication,
    "model_not_found": ProviderInvalidModel,
    "model_not_loaded": ProviderModelNotLoaded,
    "unsupported_content_block": ProviderUnsupportedContentBlock,
}
_IS_LOADING = re.compile(
    r"(?i)\bmodel\b.{0,200}\bload(?:ing|ed)\b|\bload(?:ing|ed)\b.{0,40}\bmodel|\bno models? loaded"
)
_LACKS_MODEL = re.compile(r"(?i)\bmodels?\b.{0,300}\b(?:not found|not exist|unknown|not available|unavailable)")
_CODE = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Told:
    """What the body of a refusal says: codes and texts, whatever of them is there."""

    codes: tuple[str, ...] = ()
    detail: str = ""
    status: int | None = None


def refusal(reply: Reply, server: str, *, blocks: Collection[str] = (), has_detail: bool = False) -> ProviderError:
    """The error that a refusal comes to.

    Args:
        reply: what was answered.
        server: who answered, as errors call it.
        blocks: the kinds of content, beside text, that were sent.
        has_detail: whether the error's message shows what the server said.
    """
    told = _told(reply)
    kind = _kind(told, told.status or reply.status, blocks)
    detail = redacted(told.detail)[:MAX_DETAIL_CHARACTERS].encode(errors="replace").decode() or None
    reason = " ".join((f"HTTP {reply.status}", *told.codes))
    return kind(
        server,
        f"{reason}: {detail}" if has_detail and detail else reason,
        status=reply.status,
        detail=detail,
        retry_after=retry_after(reply.headers),
    )


def has_refused(reply: Reply, body: Any) -> bool:
    """Whether an answer is a refusal, be it one that some gateways send with status 200."""
    told = _alone(body)
    if not reply.is_success or not isinstance(told, dict):
        return not reply.is_success
    return _has_broken_off(told) or (bool(told.get("error")) and not told.get("choices"))


def _alone(body: Any) -> Any:
    """A body without the list that some gateways put around their errors."""
    return body[0] if isinstance(body, list) and len(body) == 1 else body


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _has_broken_off(body: Mapping[str, Any]) -> bool:
    """Whether the model failed while it spoke, which gateways tell of with status 200."""
    choice = _first_choice(body)
    return bool(choice.get("error")) or choice.get("finish_reason") == "error"


def _kind(told: _Told, status: int, blocks: Collection[str]) -> type[ProviderError]:
    by_code = next((_BY_CODE[code] for code in told.codes if code in _BY_CODE), None)
    if by_code is not None:
        return by_code
    if status in (400, 404, 503) and _IS_LOADING.search(told.detail):
        return ProviderModelNotLoaded
    if status == 404 and _LACKS_MODEL.search(told.detail):
        return ProviderInvalidModel
    if status in (400, 422) and any(block in told.detail for block in blocks):
        return ProviderUnsupportedContentBlock
    return _BY_STATUS.get(status) or _by_class(status)


def _by_class(status: int) -> type[ProviderError]:
    if status >= 500:
        return ProviderUnavailable
    if status >= 400:
        return ProviderInvalidRequest
    return ProviderPathUnknown if status >= 300 else ProviderInvalidResponse


def _told(reply: Reply) -> _Told:
    body: Any = None
    with suppress(ValueError):
        body = _alone(read_json(reply.content))
    if not isinstance(body, dict):
        return _Told(detail=body if isinstance(body, str) else "")
    if reply.is_success and _has_broken_off(body):
        told = _told_of(_first_choice(body).get("error") or body.get("error"))
        return replace(told, status=told.status or BROKE_OFF)
    return _told_of(body.get("error", body))


def _told_of(error: Any) -> _Told:
    if not isinstance(error, dict):
        return _Told(detail=error if isinstance(error, str) else "")
    named = [error.get(name) for name in ("code", "type", "param")]
    codes = tuple(dict.fromkeys(name for name in named if isinstance(name, str) and _CODE.fullmatch(name)))
    status = next((name for name in named if type(name) is int and 400 <= name < 600), None)
    message = error.get("message", error.get("detail"))
    return _Told(codes, message if isinstance(message, str) else "", status)
