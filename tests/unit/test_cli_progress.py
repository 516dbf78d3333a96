"""What progress says of a run, and what it counts."""

import pytest

from orchestrator.checkpoint.row import RunStatus
from orchestrator.execution.status import FanOutCount, Progress
from rollforward.cli import progress
from rollforward.cli.progress import Snapshot, Watch


class Shown:
    """A display that keeps what it was shown."""

    def __init__(self) -> None:
        self.last: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> None:
        self.last = snapshot


class Clock:
    """Stands in for the module `time`; a look takes a second."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(progress, "time", Clock())


def told(*recorded: int) -> Progress:
    counts = tuple(
        FanOutCount(path="pieces", expected=100, recorded=one, failed=0, outstanding=10 if one < 100 else 0)
        for one in recorded
    )
    return Progress(status=RunStatus.RUNNING, health=None, fan_outs=counts)


def seen(*looks: Progress, is_resumed: bool) -> Snapshot:
    shown = Shown()
    watch = Watch(shown, is_resumed=is_resumed)
    for look in looks:
        watch.update(look)
    assert shown.last is not None
    return shown.last


def test_what_is_dispatched_is_in_flight_and_not_said_to_run():
    snapshot = seen(told(90), is_resumed=False)
    assert "10 in flight" in str(snapshot)
    assert "running" not in str(snapshot)
    assert (snapshot.to_json()["in_flight"], snapshot.to_json()["running"]) == (10, 10)


def test_the_rate_of_a_resumed_run_leaves_out_what_was_recorded_earlier():
    snapshot = seen(told(), told(90), told(92), is_resumed=True)
    assert (snapshot.done, snapshot.rate_per_s, snapshot.eta_s) == (92, 1.0, 8.0)


def test_a_fan_out_that_a_resumed_run_comes_to_later_counts_from_when_it_is_first_seen():
    snapshot = seen(told(98), told(100, 50), told(100, 52), is_resumed=True)
    assert (snapshot.done, snapshot.rate_per_s) == (152, 2.0)


def test_a_resumed_run_that_has_recorded_nothing_yet_has_no_time_to_go():
    assert seen(told(), told(90), is_resumed=True).eta_s is None


def test_the_rate_of_a_new_run_counts_everything():
    assert seen(told(), told(2), told(4), is_resumed=False).rate_per_s == 2.0
