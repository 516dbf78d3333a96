"""The recording protocol on a simulated clock, ledger, store and broker, and the broken versions that it catches."""

import pytest

from tests.chaos.compare import compare
from tests.chaos.mutants import caught
from tests.chaos.sim.broken import BROKEN
from tests.chaos.sim.simulation import simulate

QUICKLY_CAUGHT = (
    "no token check in a report",
    "close before record",
    "no epoch in the commit",
    "an outcome written without the epoch",
    "fan-in not once",
    "no sweep",
    "append instead of slot",
    "wall clock instead of server time",
    "a counter instead of a nonce",
)


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_no_seed_breaks_the_protocol(start: int) -> None:
    wrong = [outcome.told() for seed in range(start, start + 50) if not (outcome := simulate(seed)).is_good]
    assert wrong == []


def test_a_seed_gives_the_same_history_twice() -> None:
    for seed in range(20):
        assert simulate(seed).events == simulate(seed).events


@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_a_broken_version_is_caught(name: str) -> None:
    assert caught(BROKEN[name], seeds=200) is not None


def test_redis_answers_what_the_ledger_in_memory_does(redis_url: str) -> None:
    verbs, differences = compare(redis_url, range(20))
    assert differences == []
    assert verbs > 0


def test_a_ledger_that_differs_from_redis_is_seen(redis_url: str) -> None:
    with BROKEN["deliveries that are not counted"].version():
        assert compare(redis_url, range(10))[1] != []
