"""What nodes of a fixture do to be observed: write and read metadata, log, call a model, ask an observer."""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry import trace

from backends.llm.chat import OpenAIChat
from orchestrator.context import current_attempt_index, current_invocation_id
from orchestrator.scope import get_invocation_metadata, set_invocation_metadata
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.scene import CHAT
from tests.conformance.world import World

Do = Callable[[Any], Awaitable[dict[str, Any]]]

LOGGER = "conformance"


class TransientMarkerError(Exception):
    """What `raises: transient_marker_error` raises."""

    category = "transient_marker"


def augmenting(entries: Mapping[str, Any]) -> Do:
    async def do(_state: Any) -> dict[str, Any]:
        set_invocation_metadata(**entries)
        return {}

    return do


def capturing(field: str, world: World) -> Do:
    async def do(_state: Any) -> dict[str, Any]:
        held = get_invocation_metadata()
        world.are_immutable.append(isinstance(held, MappingProxyType))
        return {field: dict(held)}

    return do


def logging_it(section: Section) -> Do:
    message, level = section.take("message"), section.take("level")

    async def do(_state: Any) -> dict[str, Any]:
        logging.getLogger(LOGGER).log(logging.getLevelNamesMapping()[level], message)
        return {}

    return do


def tracing_elsewhere(section: Section) -> Do:
    name = section.take("span_name")

    async def do(_state: Any) -> dict[str, Any]:
        trace.get_tracer("another library").start_span(name).end()
        return {}

    return do


def asking(section: Section) -> Do:
    """Call a model; what it says is stored where the section wants it."""
    model, field = section.take("model", "test-model"), section.take("stores_response_in")
    inline = section.take("response")
    messages = section.take("messages", [{"role": "user", "content": inline}])

    async def do(_state: Any) -> dict[str, Any]:
        chat = OpenAIChat(os.environ[CHAT], model)
        try:
            completion = await chat.complete(messages)
        finally:
            await chat.aclose()
        return {} if field is None else {field: completion.text}

    return do


def querying(section: Section, world: World) -> Do:
    name, method, field = section.take("observer_name"), section.take("method"), section.take("state_field")

    async def do(_state: Any) -> dict[str, Any]:
        return {field: await getattr(world.queryable[name], method)()}

    return do


def dropping(section: Section, world: World) -> Do:
    name = section.take("observer_name")

    async def do(_state: Any) -> dict[str, Any]:
        world.queryable[name].drop(current_invocation_id())
        return {}

    return do


def seeing_it_gone(field: str, world: World) -> Do:
    async def do(_state: Any) -> dict[str, Any]:
        (observer,) = world.queryable.values()
        return {field: not observer.has_bucket(current_invocation_id())}

    return do


def by_attempt(sections: list[Section], world: World) -> Do:
    """Do another thing in each attempt."""
    turns = {section.take("attempt"): _turn(section, world) for section in sections}

    async def do(state: Any) -> dict[str, Any]:
        update: dict[str, Any] = {}
        for step in turns[current_attempt_index()]:
            update |= await step(state)
        return update

    return do


def _turn(section: Section, world: World) -> list[Do]:
    return [_step(section, key, world) for key in section.keys if key not in ("attempt", "succeeds")] + _end(section)


def _step(section: Section, key: str, world: World) -> Do:
    match key:
        case "augment_metadata":
            return augmenting(section.take(key))
        case "capture_invocation_metadata_into":
            return capturing(section.take(key), world)
        case "raises":
            return _raising(section, section.take(key))
    raise UnknownDirective(f"{section.path}.{key}")


def _end(section: Section) -> list[Do]:
    if section.take("succeeds", default="raises" not in section) is not ("raises" not in section):
        raise UnknownDirective(f"{section.path}.succeeds")
    return []


def _raising(section: Section, kind: str) -> Do:
    if kind != "transient_marker_error":
        raise UnknownDirective(f"{section.path}.raises: {kind}")

    async def do(_state: Any) -> dict[str, Any]:
        raise TransientMarkerError("marked")

    return do
