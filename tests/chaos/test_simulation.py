"""The recording protocol on a simulated clock, ledger, store and broker, and the broken versions that it catches."""

import pytest

from tests.chaos.mutants import caught
from tests.chaos.sim.broken import BROKEN
from tests.chaos.sim.simulation import simulate

QUICKLY_CAUGHT = (
    "no token check in a report",
    "close before record",
    "no epoch in the commit",
    "fan-in not once",
    "no sweep",
    "a counter instead of a nonce",
)


@pytest.mark.parametrize("start", range(0, 100, 25))
def test_no_seed_breaks_the_protocol(start: int) -> None:
    wrong = [outcome.told() for seed in range(start, start + 25) if not (outcome := simulate(seed)).is_good]
    assert wrong == []


def test_a_seed_gives_the_same_history_twice() -> None:
    for seed in range(10):
        assert simulate(seed).events == simulate(seed).events


@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_a_broken_version_is_caught(name: str) -> None:
    assert caught(BROKEN[name], seeds=40) is not None
