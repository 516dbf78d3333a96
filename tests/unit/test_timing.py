"""What is measured, and that measuring changes nothing."""

from typing import Any

import pytest

from orchestrator.middleware.chain import Middleware, compose
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.middleware.timing import TimingMiddleware, TimingRecord


class Limited(Exception):
    category = "provider_rate_limit"


class Clock:
    """Goes on by 5 ms with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.005
        return self.now


def timing(records: list[TimingRecord]) -> TimingMiddleware:
    return TimingMiddleware("node", records.append, clock=Clock())


async def test_a_success_is_measured():
    records: list[TimingRecord] = []

    async def work(_state: Any) -> dict[str, Any]:
        return {"a": 1}

    assert await timing(records)(None, work) == {"a": 1}
    (record,) = records
    assert (record.node_name, record.outcome, record.exception_category) == ("node", "success", None)
    assert record.duration_ms == pytest.approx(5)


async def test_a_failure_is_measured_and_raised_again():
    records: list[TimingRecord] = []

    async def work(_state: Any) -> dict[str, Any]:
        raise Limited

    with pytest.raises(Limited):
        await timing(records)(None, work)
    assert (records[0].outcome, records[0].exception_category) == ("exception", "provider_rate_limit")


@pytest.mark.parametrize(("is_outside", "outcomes"), [(True, ["success"]), (False, ["exception", "success"])])
async def test_inside_a_retry_each_attempt_is_measured_outside_all_together(is_outside, outcomes):
    records: list[TimingRecord] = []
    tries: list[int] = []

    async def work(_state: Any) -> dict[str, Any]:
        tries.append(1)
        if len(tries) == 1:
            raise Limited
        return {}

    retry = RetryMiddleware(max_attempts=2, backoff=deterministic_backoff(0))
    chain: list[Middleware] = [timing(records), retry] if is_outside else [retry, timing(records)]
    await compose(chain, work)(None)
    assert [record.outcome for record in records] == outcomes


async def test_who_is_told_may_be_async():
    records: list[TimingRecord] = []

    async def keep(record: TimingRecord) -> None:
        records.append(record)

    async def work(_state: Any) -> dict[str, Any]:
        return {}

    await TimingMiddleware("node", keep)(None, work)
    assert len(records) == 1
