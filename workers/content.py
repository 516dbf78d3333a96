"""What content a process of these settings reads from messages, beside plain JSON."""

from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads, registry
from kombu.utils.json import _decoders

from workers.application import build_app
from workers.settings import Settings

_JSON = "json"
_REVIVED_BY_KOMBU = frozenset({"base64", "bytes", "date", "datetime", "decimal", "time", "uuid"})


def unsafe_content(settings: Settings) -> list[str]:
    """Name what is more than JSON in the app of these settings, and in what was imported here; nothing is well."""
    app = build_app(settings)
    try:
        return [*_of_app(app), *_enabled(), *_revived()]
    finally:
        app.close()


def _of_app(app: Celery) -> Iterator[str]:
    if set(app.conf.accept_content) != {_JSON} or set(app.conf.result_accept_content or [_JSON]) != {_JSON}:
        yield f"Celery accepts {', '.join(sorted(app.conf.accept_content))}"
    for name in ("task_serializer", "result_serializer", "event_serializer"):
        if app.conf[name] != _JSON:
            yield f"{name} is {app.conf[name]}"
    if app.conf.result_backend:
        yield "a result backend is set"


def _enabled() -> Iterator[str]:
    for content_type, name in sorted(registry.type_to_name.items()):
        if name != _JSON and _is_enabled(content_type):
            yield f"kombu decodes {name}"


def _is_enabled(content_type: str) -> bool:
    decode: Any = loads  # kombu's has no types
    try:
        # Nothing is decoded of nothing; what is disabled is refused before that.
        decode(b"", content_type, "binary")
    except ContentDisallowed:
        return False
    return True


def _revived() -> Iterator[str]:
    for marker in sorted(set(_decoders) - _REVIVED_BY_KOMBU):
        yield f"kombu makes objects of JSON marked {marker!r}"
