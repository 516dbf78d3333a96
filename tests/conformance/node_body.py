"""What a fixture's nodes do: each directive in the order in which it stands."""

import asyncio
import builtins
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator.context import current_fan_out_index, current_invocation_id, current_run_id
from orchestrator.observers.draining import drain_events_for
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.observed_body import (
    asking,
    augmenting,
    by_attempt,
    capturing,
    dropping,
    logging_it,
    querying,
    seeing_it_gone,
    tracing_elsewhere,
)
from tests.conformance.world import World, calls_so_far

BEHIND_SECONDS, RECORDING_SECONDS = 10.0, 1.0
"""How long an instance behind the one that fails is at work, and what those before it may need to be recorded."""

NOT_OF_THE_BODY = frozenset({"middleware", "error_category", "retry_middleware", "calls_llm_from_wrapper"})

LAST = frozenset({"calls_llm"})
"""What comes after all else in a body, wherever it stands: a model is called when the metadata has been written."""

Do = Callable[[Any], Awaitable[dict[str, Any]]]


class MockFailure(Exception):
    """What a failure mock raises; it has a category where the fixture gives one."""

    def __init__(self, message: str, category: str | None = None) -> None:
        self.category = category
        super().__init__(message)


class Body:
    """A node's function, made of its directives in the order in which they stand."""

    def __init__(self, section: Section, world: World) -> None:
        self._category = section.take("error_category")
        self._steps = [
            _directive(section, key, world, category=self._category)
            for key in sorted(section.keys, key=LAST.__contains__)
            if key not in NOT_OF_THE_BODY
        ]
        self._world = world
        if not self._steps:
            raise UnknownDirective(f"{section.path} does nothing")

    async def __call__(self, state: Any) -> dict[str, Any]:
        update: dict[str, Any] = {}
        run_id = current_run_id() or ""
        self._world.counters.began(run_id)
        try:
            for step in self._steps:
                update |= await step(state)
        finally:
            self._world.counters.ended(run_id)
        return update


def _directive(section: Section, key: str, world: World, *, category: str | None) -> Do:
    if key in PLAIN:
        return PLAIN[key](section.take(key))
    if key in MOCKS:
        return MOCKS[key](section.section(key), f"{section.path}.{key}", world)
    if key in OBSERVED:
        return OBSERVED[key](section, key, world)
    if key == "raises":
        return _raising(section.take(key), category)
    if key == "invoke_drain_events_for":
        return _draining(section.section(key), section.path.rsplit(".", 1)[-1], world)
    raise UnknownDirective(f"{section.path}.{key}")


def _constant(update: Mapping[str, Any]) -> Do:
    async def do(_state: Any) -> dict[str, Any]:
        # A body that waits lets others begin, so that what is said about concurrency can be seen.
        await asyncio.sleep(0.001)
        return dict(update)

    return do


def _resolved(update: Mapping[str, Any]) -> Do:
    async def do(state: Any) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {name: value_in(state, value) for name, value in update.items()}

    return do


def _computed(update: Mapping[str, str]) -> Do:
    """Each value names a field and what is done with it."""
    sources = {target: name.removesuffix("_times_two") for target, name in update.items()}
    if any(f"{source}_times_two" != update[target] for target, source in sources.items()):
        raise UnknownDirective(f"update_pure_from_state: {update}")
    return _multiplied({**sources, "multiplier": 2})


def value_in(state: Any, value: Any) -> Any:
    """A literal, or the field's value where a text names a field."""
    if isinstance(value, str) and value in type(state).model_fields:
        return getattr(state, value)
    return value


def _multiplied(spec: Mapping[str, Any]) -> Do:
    factor = spec.get("multiplier", 1)
    sources = {target: source for target, source in spec.items() if target != "multiplier"}

    async def do(state: Any) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {target: getattr(state, source) * factor for target, source in sources.items()}

    return do


def _raising(spec: Any, category: str | None) -> Do:
    async def do(_state: Any) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        if isinstance(spec, str):
            raise MockFailure(spec, category)
        unknown = set(spec) - {"exception_kind", "message"}
        if unknown:
            raise UnknownDirective(f"raises {sorted(unknown)}")
        error = getattr(builtins, spec.get("exception_kind", "RuntimeError"))(spec.get("message", ""))
        error.category = category
        raise error

    return do


def _sleeping(milliseconds: float) -> Do:
    async def do(_state: Any) -> dict[str, Any]:
        await asyncio.sleep(milliseconds / 1000)
        return {}

    return do


def _draining(section: Section, node: str, world: World) -> Do:
    timeout, observer = section.take("timeout_seconds"), section.take("snapshot_observer")

    async def do(_state: Any) -> dict[str, Any]:
        invocation_id = current_invocation_id() or ""
        began = time.monotonic()
        world.drains[invocation_id][node] = await drain_events_for(invocation_id, timeout=timeout)
        world.drain_seconds[invocation_id] = time.monotonic() - began
        if observer is not None:
            kept = list(world.observers[observer].buckets[invocation_id])
            world.snapshots[invocation_id][node] = {observer: kept}
        return {}

    return do


def is_first_run() -> bool:
    """Whether this is the invocation that began the run."""
    return current_invocation_id() == current_run_id()


def _flaky(section: Section, mock: str, world: World) -> Do:
    if "fail_first_invocation_only" in section:
        section.take("fail_first_invocation_only")
        success = section.take("on_success", {})

        async def fail_first(state: Any) -> dict[str, Any]:
            if is_first_run():
                raise MockFailure("the first run fails", "provider_unavailable")
            return {name: value_in(state, value) for name, value in success.items()}

        return fail_first
    sequence, success = section.take("failure_sequence", []), section.take("success_update", {})
    if "fail_count" in section:
        sequence = [{"message": "flaky", "category": section.take("category")}] * section.take("fail_count")
    success = section.take("on_success", success)

    async def fail_in_sequence(state: Any) -> dict[str, Any]:
        world.flaky_calls += 1
        call = calls_so_far(world.counters, mock)
        if call < len(sequence) and sequence[call] is not None:
            raise _failure(sequence[call])
        return {name: value_in(state, value) for name, value in success.items()}

    return fail_in_sequence


def _failure(spec: Mapping[str, Any]) -> MockFailure:
    unknown = set(spec) - {"category", "message", "transient", "cause"}
    if unknown:
        raise UnknownDirective(f"failure {sorted(unknown)}")
    failure = MockFailure(spec.get("message", "flaky"), spec.get("category"))
    if spec.get("cause") is not None:
        failure.__cause__ = _failure(spec["cause"])
    return failure


def _succeeding(section: Section, fails: Callable[[Any], MockFailure | None]) -> Do:
    success = section.take("success_compute", section.take("on_success", {}))

    async def do(state: Any) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        failure = fails(state)
        if failure is not None:
            raise failure
        return {name: value_in(state, value) for name, value in success.items()}

    return do


def _flaky_by_index(section: Section, mock: str, world: World) -> Do:
    item, written = section.take("fail_when_idx"), section.take("success_compute", {})
    count, category = section.take("fail_count_per_idx", 0), section.take("category", "provider_unavailable")

    def is_it(state: Any) -> bool:
        # The item is in one of the fields that the mock does not write.
        found = [value for name, value in state.model_dump().items() if name not in written]
        return any(value == item and not isinstance(value, bool) for value in found)

    def fails(state: Any) -> MockFailure | None:
        if item is not None and is_it(state):
            return MockFailure(f"item {item}", category)
        is_early = count > 0 and calls_so_far(world.counters, mock) < count
        return MockFailure("an early attempt", category) if is_early else None

    return _succeeding(section, fails)


def _flaky_per_index(section: Section, mock: str, world: World) -> Do:
    first, always = section.take("fail_first_run_indices", []), section.take("always_fail_indices", [])

    def fails(_state: Any) -> MockFailure | None:
        index = current_fan_out_index()
        if index in always or (index in first and is_first_run()):
            return MockFailure(f"instance {index}", "provider_invalid_response")
        return None

    succeed = _succeeding(section, fails)
    return _in_turn(succeed, min(first), mock, world) if first else succeed


def _in_turn(body: Do, failing: int, mock: str, world: World) -> Do:
    """Let the instances before the one that fails be done when it does, and stop those behind it.

    Only where one failure ends the fan-out. One after the other they need not wait: those before are done, and none
    begins behind the one that fails.
    """

    async def do(state: Any) -> dict[str, Any]:
        if not world.stops_early or not is_first_run():
            return await body(state)
        index, done = current_fan_out_index() or 0, f"{current_run_id()}:{mock}:done"
        if index > failing:
            await asyncio.sleep(BEHIND_SECONDS)
        elif index == failing and world.counters.asked(done) < failing:
            await _until(lambda: world.counters.asked(done) >= failing)
            await asyncio.sleep(RECORDING_SECONDS)
        update = await body(state)
        world.counters.next(done)
        return update

    return do


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(BEHIND_SECONDS):
        while not is_so():  # noqa: ASYNC110 - it may become so in another process
            await asyncio.sleep(0.01)


def _flaky_instance_only(section: Section, mock: str, world: World) -> Do:
    count, category = section.take("fail_count_per_instance", 0), section.take("category")

    def fails(_state: Any) -> MockFailure | None:
        is_early = calls_so_far(world.counters, mock) < count
        return MockFailure("an early run of the instance", category) if is_early else None

    return _succeeding(section, fails)


def _flaky_resume_aware(section: Section, mock: str, world: World) -> Do:
    first, resumed = section.take("fail_first_invocation_count"), section.take("fail_resumed_invocation_count")
    category = section.take("category")

    def fails(_state: Any) -> MockFailure | None:
        turn, limit = ("first", first) if is_first_run() else ("resumed", resumed)
        is_early = calls_so_far(world.counters, f"{mock}.{turn}") < limit
        return MockFailure(f"an early attempt of the {turn} run", category) if is_early else None

    return _succeeding(section, fails)


PLAIN: dict[str, Callable[[Any], Do]] = {
    "update": _constant,
    "update_pure": _resolved,
    "update_from_field": _multiplied,
    "update_pure_from_state": lambda update: _computed(update),
    "noop": lambda _value: _constant({}),
    "sleep_ms": _sleeping,
    "augment_metadata": augmenting,
}
OBSERVED: dict[str, Callable[[Section, str, World], Do]] = {
    "capture_invocation_metadata_into": lambda section, key, world: capturing(section.take(key), world),
    "emits_log": lambda section, key, _world: logging_it(section.section(key)),
    "also_emits_via_global_tracer": lambda section, key, _world: tracing_elsewhere(section.section(key)),
    "calls_llm": lambda section, key, _world: asking(section.section(key)),
    "per_attempt_behavior": lambda section, key, world: by_attempt(section.listed(key), world),
    "capture_queryable_observer_read_into": lambda section, key, world: querying(section.section(key), world),
    "then_drop_for_current_invocation": lambda section, key, world: dropping(section.section(key), world),
    "then_assert_bucket_absent_into": lambda section, key, world: seeing_it_gone(section.take(key), world),
}
MOCKS: dict[str, Callable[[Section, str, World], Do]] = {
    "flaky": _flaky,
    "flaky_by_index": _flaky_by_index,
    "flaky_per_index": _flaky_per_index,
    "flaky_instance_only": _flaky_instance_only,
    "flaky_resume_aware": _flaky_resume_aware,
}
