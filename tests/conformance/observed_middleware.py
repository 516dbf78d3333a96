"""What fixtures have done around nodes, instances and branches, to be observed."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link
from orchestrator.middleware.chain import Middleware
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.scope import set_invocation_metadata
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.implied import ITEM
from tests.conformance.observed_body import asking, logging_it

_item: ContextVar[Mapping[str, Any]] = ContextVar("conformance_item")


def around_node(spec: Section) -> list[Middleware]:
    """The middleware that stands among the directives of a node, outermost first."""
    found: list[Middleware] = []
    if "retry_middleware" in spec:
        found.append(_retry(spec.section("retry_middleware")))
    if "calls_llm_from_wrapper" in spec:
        found.append(_asking(spec.section("calls_llm_from_wrapper")))
    if "subgraph" in spec and "emits_log" in spec:
        found.append(_logging(spec.section("emits_log")))
    return found


def around_instance(spec: Section, *, has_item_field: bool) -> list[Middleware]:
    """The middleware around the instances of a fan-out, which may name fields of the item as the instance's own."""
    found: list[Middleware] = [] if has_item_field else [_unpacking]
    if "augment_metadata_from_field" in spec:
        found.append(_augmenting_from_item(spec.take("augment_metadata_from_field")))
    return found


def around_branch(spec: Section) -> list[Middleware]:
    """The middleware around a branch."""
    found: list[Middleware] = []
    if "augment_metadata" in spec:
        found.append(_augmenting(spec.take("augment_metadata")))
    if "augment_metadata_from_outer_item" in spec:
        found.append(_augmenting_from_item(spec.take("augment_metadata_from_outer_item")))
    return found


def _retry(section: Section) -> Middleware:
    marker = section.take("classifier")
    return RetryMiddleware(
        max_attempts=section.take("max_attempts"),
        classifier=lambda error, _state: derived_link(classify_cause_chain(error)).category == marker,
        backoff=deterministic_backoff(0),
    )


def _asking(section: Section) -> Middleware:
    phase, ask = section.take("phase", "pre"), asking(section)
    if phase not in ("pre", "post"):
        raise UnknownDirective(f"{section.path}.phase: {phase}")

    async def around(state: Any, call: Any) -> Any:
        if phase == "pre":
            await ask(state)
        update = await call(state)
        if phase == "post":
            await ask(state)
        return update

    return around


def _logging(section: Section) -> Middleware:
    log = logging_it(section)

    async def around(state: Any, call: Any) -> Any:
        await log(state)
        return await call(state)

    return around


async def _unpacking(state: Any, call: Any) -> Any:
    """Give the instance its item, and those of the item's fields that it has too."""
    item = getattr(state, ITEM)
    _item.set(item)
    own = {name: value for name, value in item.items() if name in type(state).model_fields}
    return await call(state.model_copy(update=own))


def _augmenting(entries: Mapping[str, Any]) -> Middleware:
    async def around(state: Any, call: Any) -> Any:
        set_invocation_metadata(**entries)
        return await call(state)

    return around


def _augmenting_from_item(names: Mapping[str, str]) -> Middleware:
    async def around(state: Any, call: Any) -> Any:
        set_invocation_metadata(**{name: _item.get()[field] for name, field in names.items()})
        return await call(state)

    return around
