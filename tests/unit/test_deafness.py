"""Which workers are taken for deaf."""

import pytest

from workers.deafness import deafness
from workers.settings import Settings

SETTINGS = Settings(lease_seconds=10)
QUEUE = "rollforward.shout.12ab"
HEALTHY = {"worker": "one@host", "graphs": [["shout", "12ab"]], "queues": [QUEUE], "silent_seconds": 0.4}


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"silent_seconds": 9.9},
        {"silent_seconds": None},
        {"queues": [QUEUE, "of-a-fan-out"]},
        {"graphs": [], "queues": []},
    ],
)
def test_a_worker_that_is_answered_is_well(told):
    assert deafness({**HEALTHY, **told}, SETTINGS) is None


@pytest.mark.parametrize("fact", ["silent_seconds", "queues", "graphs"])
def test_nothing_is_held_against_a_worker_that_does_not_tell(fact):
    assert deafness({name: told for name, told in HEALTHY.items() if name != fact}, SETTINGS) is None


def test_a_worker_that_hears_nothing_for_a_lease_is_named():
    assert deafness({**HEALTHY, "silent_seconds": 10.1}, SETTINGS) == (
        "one@host is alive and consumes nothing: it has heard nothing from the broker for 10 s, with a free place; "
        "look at its log, and start it anew; what it holds comes back by itself"
    )


def test_a_short_lease_does_not_make_a_short_silence_deafness():
    quick = Settings(lease_seconds=1)
    assert deafness({**HEALTHY, "silent_seconds": 4.9}, quick) is None
    assert deafness({**HEALTHY, "silent_seconds": 5.1}, quick) is not None


@pytest.mark.parametrize("queues", [[], ["rollforward.shout.34cd"]])
def test_a_worker_that_does_not_consume_the_queue_of_its_graph_is_named(queues):
    sentence = deafness({**HEALTHY, "queues": queues}, SETTINGS)
    assert sentence is not None
    assert f"does not consume {QUEUE}" in sentence


def test_the_queue_of_a_graph_is_that_of_the_namespace():
    sentence = deafness(HEALTHY, Settings(namespace="other"))
    assert sentence is not None
    assert "other.shout.12ab" in sentence
