"""Secrets, known by their shape, starred out of what is logged, recorded or shown."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

STARS = "***"
WITHHELD = "[withheld: a redactor failed]"

Redactor = Callable[[str], str]

_NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|credential|(?:api|access|private)[_-]?key"
    r"|(?:access|api|auth|bearer|id|refresh|session)[_-]?token)[\w-]{0,32}"
)
_QUOTE = r"\\*[\"']?"
_IS = rf"{_QUOTE}[ \t]*[:=][ \t]*"
# What stands between escaped quotes ends nobody knows where: it is taken up to a plain one, or the end of the line.
_VALUE = (
    r"(?:[brfu]{0,2}(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')(?=[\s,;&)\]}]|\Z)"
    r"|\\+(?:\"(?:\\.|[^\"\\\n])*|'(?:\\.|[^'\\\n])*)|\S+)"
)
# Whatever follows up to a space is taken with a secret: too much is starred rather than too little. The words in front
# are those of which a text has one where it has the shape: looking for them first makes it ten times as quick.
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = tuple(
    (tuple(words.split()), re.compile(shape), replacement)
    for words, shape, replacement in (
        ("-----begin", r"(?s)(-----BEGIN [A-Z0-9 ]{1,40}-----).*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", rf"\1{STARS}"),
        ("://", r"://([^\s/?#@:]{0,256}):\S{0,1024}@", rf"://\1:{STARS}@"),
        ("://", r"://[^\s/?#@:]{1,256}@", f"://{STARS}@"),
        ("bearer", r"(?i)(bearer(?:[ \t]+|%20|\+))[^\s\"'\\]{8,}", rf"\1{STARS}"),
        (
            "authorization",
            rf"(?i)(authorization{_QUOTE}[ \t]*[:=,][ \t]*(?:b(?=[\"']))?{_QUOTE})(?:[\w-]+[ \t]+)?\S+",
            rf"\1{STARS}",
        ),
        (
            "passw passphrase pwd secret credential token "
            "apikey api_key api-key accesskey access_key access-key privatekey private_key private-key",
            rf"(?i)({_NAMES}{_IS}){_VALUE}",
            rf"\1{STARS}",
        ),
        ("ghp_ gho_ ghs_ ghu_ ghr_ github_pat_", r"gh[opsur]_[A-Za-z0-9]{16,}|github_pat_\w{16,}", STARS),
        ("a", r"(?:A3T[A-Z0-9]|A(?:BIA|CCA|GPA|IDA|IPA|KIA|NPA|NVA|ROA|SIA))[A-Z0-9]{16}", STARS),
        ("sk- xox", r"sk-[\w-]{16,}|xox[a-z]-[\w-]{10,}", STARS),
        ("eyj", r"eyJ[\w-]{8,512}\.[\w-]{8,}(?:\.[\w-]*)?", STARS),
    )
)
_NAMED = re.compile(rf"(?i)[\w-]*?(?:{_NAMES}|authorization)")

_redactors: list[Redactor] = []


def add_redactor(redact: Redactor) -> None:
    """Have texts pass through `redact` as well, after the shapes that are known here, in this process.

    A module of `ROLLFORWARD_GRAPHS` is the place to call it from: every process that runs its graphs imports it.
    Where it raises, the text is withheld.
    """
    if redact not in _redactors:
        _redactors.append(redact)


def redacted(text: str) -> str:
    """The text, with stars in place of what has the shape of a secret.

    Bearer tokens and other authorizations, values of what is named as a password, secret or key, user information
    of URLs, PEM blocks, tokens of AWS, GitHub and a few others.
    """
    lowered = text.lower()
    for words, shape, replacement in _SHAPES:
        if any(word in lowered for word in words):
            text = shape.sub(replacement, text)
    for redact in _redactors:
        told = WITHHELD
        with suppress(Exception):
            told = str(redact(text))
        text = told
    return text


def redacted_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a log line, each value redacted, whatever it is and however deep."""
    return {str(name): STARS if _NAMED.fullmatch(str(name)) else _redacted_value(fields[name]) for name in fields}


def _redacted_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return redacted_fields(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted_value(one) for one in value]
    return redacted(value if isinstance(value, str) else repr(value))
