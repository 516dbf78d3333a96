"""The middleware that fixtures name."""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link
from orchestrator.middleware.chain import Middleware
from orchestrator.middleware.failure_isolation import FailureIsolationMiddleware
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.middleware.timing import TimingMiddleware, TimingRecord
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.world import World

TRACE = "trace"
"""The field that markers of a trace recorder are appended to."""


def middleware(sections: list[Section], world: World, *, clock: Callable[[], float] | None = None) -> list[Middleware]:
    """The middleware of a list of a fixture, outermost first."""
    return [_one(section, world, clock) for section in sections]


def _one(section: Section, world: World, clock: Callable[[], float] | None) -> Middleware:
    if "type" not in section:
        (kind,) = (key for key in section.keys)
        return _of_kind(kind, section.section(kind), world, clock=clock)
    return _of_kind(section.take("type"), section, world, clock=clock)


def _of_kind(kind: str, section: Section, world: World, *, clock: Callable[[], float] | None) -> Middleware:
    match kind:
        case "retry":
            return _retry(section)
        case "failure_isolation":
            return _failure_isolation(section, world)
        case "timing":
            return _timing(section, world, clock)
        case "trace_recorder":
            return _trace_recorder(section, world)
        case "short_circuit":
            return _short_circuit(section.take("partial_update"))
        case "error_recovery":
            return _error_recovery(section.take("partial_update"))
    raise UnknownDirective(f"{section.path}: middleware {kind}")


def _retry(section: Section) -> Middleware:
    backoff = section.section("backoff")
    if backoff.take("type", "deterministic") != "deterministic":
        raise UnknownDirective(f"{backoff.path}.type: {backoff.take('type')}")
    classifier = section.section("classifier") if "classifier" in section else None
    return RetryMiddleware(
        max_attempts=section.take("max_attempts", 3),
        backoff=deterministic_backoff(backoff.take("seconds", 0)),
        classifier=None if classifier is None else _classifier(classifier),
    )


def _classifier(section: Section) -> Callable[[Exception, Any], bool]:
    if "transient_categories" in section:
        categories = set(section.take("transient_categories"))
        return lambda error, _state: derived_link(classify_cause_chain(error)).category in categories
    kind = section.take("type")
    if kind == "state_aware_max_retries_remaining":
        return lambda _error, state: state.max_retries_remaining > 0
    raise UnknownDirective(f"{section.path}.type: {kind}")


def _timing(section: Section, world: World, clock: Callable[[], float] | None) -> Middleware:
    target = section.section("on_complete").take("capture_to")

    def keep(record: TimingRecord) -> None:
        world.captured.append((target, record))

    options = {} if clock is None else {"clock": clock}
    return TimingMiddleware(section.take("node_name"), keep, **options)


def _failure_isolation(section: Section, world: World) -> Middleware:
    predicate = section.section("predicate").take("matches_category") if "predicate" in section else None
    return FailureIsolationMiddleware(
        _degraded(section, world),
        event_name=section.take("event_name"),
        catch=section.take("catch"),
        predicate=None if predicate is None else lambda error: getattr(error, "category", None) == predicate,
        on_caught=_on_caught(section.section("on_caught"), world) if "on_caught" in section else None,
    )


def _degraded(section: Section, world: World) -> Any:
    update: Mapping[str, Any] = section.take("degraded_update")
    if "callable" not in update:
        return update
    if update["callable"] != "state_derived" or set(update) != {"callable", "template", "target_field"}:
        raise UnknownDirective(f"{section.path}.degraded_update: {update}")

    def derived(state: Any) -> dict[str, Any]:
        world.degraded_from.append(state)
        text = update["template"]
        for name in type(state).model_fields:
            text = text.replace(f"{{{{ state.{name} }}}}", str(getattr(state, name)))
        return {update["target_field"]: text}

    return derived


def _on_caught(section: Section, world: World) -> Callable[[Exception], Any]:
    kind = section.take("kind")
    if kind != "record_to_state_side_channel":
        raise UnknownDirective(f"{section.path}.kind: {kind}")
    count, message = section.take("increment_field"), section.take("capture_message_field")

    async def on_caught(error: Exception) -> None:
        world.caught.append(error)
        world.side_channel[count] = world.side_channel.get(count, 0) + 1
        world.side_channel[message] = str(error)

    return on_caught


def _trace_recorder(section: Section, world: World) -> Middleware:
    name, pre, post = section.take("name"), section.take("pre_marker"), section.take("post_marker")

    async def record(state: Any, call: Any) -> Mapping[str, Any]:
        seen = {"pre_seen": True, "post_seen": False, "state_in": state}
        world.trace_records[name].append(seen)
        update = dict(await call(state))
        seen |= {"post_seen": True, "partial_update": dict(update)}
        before, after = [] if pre is None else [pre], [] if post is None else [post]
        if before or after:
            update[TRACE] = [*before, *update.get(TRACE, []), *after]
        return update

    return record


def _short_circuit(update: Mapping[str, Any]) -> Middleware:
    async def short_circuit(_state: Any, _call: Any) -> Mapping[str, Any]:
        return update

    return short_circuit


def _error_recovery(update: Mapping[str, Any]) -> Middleware:
    async def recover(state: Any, call: Any) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await call(state)
        except UnknownDirective:
            raise
        except Exception:  # noqa: BLE001 - it is the one that recovers from everything
            return update
        return found

    return recover
