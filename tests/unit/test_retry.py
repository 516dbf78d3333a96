import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.context import current_attempt_index
from orchestrator.errors import Fenced, NodeException, RunCancelled
from orchestrator.middleware.retry import (
    RetryConfig,
    RetryMiddleware,
    asked_wait,
    default_classifier,
    deterministic_backoff,
    exponential_jitter_backoff,
)

NO_WAIT = deterministic_backoff(0)


class ProviderError(Exception):
    def __init__(self, category: str) -> None:
        self.category = category
        self.retry_after: Any = None
        super().__init__(category)


class Node:
    """Fails with the given errors, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[int] = []

    async def __call__(self, _state):
        self.attempts.append(current_attempt_index())
        if self.errors:
            raise self.errors.pop(0)
        return {"ok": True}


async def test_a_passing_failure_is_tried_again():
    node = Node(ProviderError("provider_unavailable"))
    assert await RetryMiddleware(backoff=NO_WAIT)({}, node) == {"ok": True}
    assert node.attempts == [0, 1]
    assert current_attempt_index() == 0


async def test_after_the_last_attempt_the_failure_is_raised():
    node = Node(*[ProviderError("provider_rate_limit") for _ in range(9)])
    with pytest.raises(ProviderError):
        await RetryMiddleware(RetryConfig(max_attempts=3, backoff=NO_WAIT))({}, node)
    assert node.attempts == [0, 1, 2]


async def test_one_attempt_is_no_retry():
    node = Node(ProviderError("provider_rate_limit"))
    with pytest.raises(ProviderError):
        await RetryMiddleware(max_attempts=1)({}, node)
    assert node.attempts == [0]


@pytest.mark.parametrize("error", [ProviderError("provider_authentication"), ValueError("no")])
async def test_another_failure_is_not_tried_again(error):
    node = Node(error)
    with pytest.raises(type(error)):
        await RetryMiddleware(max_attempts=5, backoff=NO_WAIT)({}, node)
    assert node.attempts == [0]


async def test_the_classifier_sees_the_state():
    def permits(_error, state):
        return state["retries"] > 0

    retry = RetryMiddleware(max_attempts=5, classifier=permits, backoff=NO_WAIT)
    assert await retry({"retries": 1}, Node(ValueError("boom"))) == {"ok": True}
    with pytest.raises(ValueError, match="boom"):
        await retry({"retries": 0}, Node(ValueError("boom")))


@pytest.mark.parametrize("stop", [asyncio.CancelledError(), RunCancelled("r"), Fenced("r", 1)])
async def test_what_stops_the_run_is_never_tried_again(stop):
    node = Node(stop)
    with pytest.raises(type(stop)):
        await RetryMiddleware(max_attempts=5, classifier=lambda _error, _state: True, backoff=NO_WAIT)({}, node)
    assert node.attempts == [0]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_a_passing_failure_is_found_in_the_error_and_its_immediate_cause_only():
    passing = ProviderError("provider_model_not_loaded")
    assert default_classifier(passing, None)
    assert default_classifier(caused(NodeException("n", passing), passing), None)
    assert not default_classifier(caused(ValueError(), caused(ValueError(), passing)), None)


async def test_on_retry_is_told_of_each_failed_attempt_that_is_tried_again():
    told = []

    async def on_retry(error, attempt_index):
        told.append((error.category, attempt_index))

    node = Node(ProviderError("provider_unavailable"), ProviderError("provider_rate_limit"))
    await RetryMiddleware(backoff=NO_WAIT, on_retry=on_retry)({}, node)
    assert told == [("provider_unavailable", 0), ("provider_rate_limit", 1)]


async def test_a_plain_on_retry_is_called_too():
    told = []
    retry = RetryMiddleware(backoff=NO_WAIT, on_retry=lambda _error, attempt_index: told.append(attempt_index))
    await retry({}, Node(ProviderError("provider_unavailable")))
    assert told == [0]


async def test_the_wait_is_asked_for_each_failed_attempt():
    asked = []

    def wait(attempt_index):
        asked.append(attempt_index)
        return 0.0

    await RetryMiddleware(backoff=wait)({}, Node(*[ProviderError("provider_unavailable") for _ in range(2)]))
    assert asked == [0, 1]


@pytest.mark.parametrize(("cap", "asked", "waited"), [(3600, 0.05, 0.05), (0.02, 3600, 0.02)])
async def test_what_an_error_asks_to_wait_is_waited_up_to_a_cap_with_the_backoff_on_top(cap, asked, waited):
    error = ProviderError("provider_rate_limit")
    error.retry_after = timedelta(seconds=asked)
    began = time.monotonic()
    retry = RetryMiddleware(backoff=deterministic_backoff(0.01), max_retry_after=timedelta(seconds=cap))
    await retry({}, Node(caused(NodeException("n", error), error)))
    assert waited + 0.01 <= time.monotonic() - began < 60


def test_an_error_asks_to_wait_by_itself_or_by_its_immediate_cause():
    error = ProviderError("provider_rate_limit")
    error.retry_after = timedelta(seconds=7)
    assert asked_wait(error) == asked_wait(caused(NodeException("n", error), error)) == timedelta(seconds=7)
    assert asked_wait(caused(ValueError(), caused(ValueError(), error))) == timedelta(0)
    error.retry_after = 7
    assert asked_wait(error) == timedelta(0)


def test_jitter_is_full_and_capped():
    wait = exponential_jitter_backoff(base=1, cap=30)
    for attempt_index, most in [(0, 1), (1, 2), (3, 8), (6, 30), (5000, 30)]:
        waits = [wait(attempt_index) for _ in range(200)]
        assert all(0 <= one <= most for one in waits)
        assert max(waits) > most / 2 > min(waits)


def test_a_deterministic_wait_is_always_the_same():
    assert [deterministic_backoff(2)(attempt_index) for attempt_index in range(3)] == [2, 2, 2]


def test_less_than_one_attempt_is_refused():
    with pytest.raises(ValueError, match="pass 1 or more"):
        RetryConfig(max_attempts=0)


def test_a_config_and_options_are_not_mixed():
    with pytest.raises(ValueError, match="not both"):
        RetryMiddleware(RetryConfig(), max_attempts=2)
