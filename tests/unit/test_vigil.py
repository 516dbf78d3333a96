"""A lease that nobody renews is given up, whatever its end says; one that is renewed is not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from orchestrator.checkpoint.row import Run, RunStatus
from rollforward.vigil import Vigil
from tests.contract.ledger_case import Clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = Run(
    run_id="r",
    graph="g",
    fingerprint="f",
    correlation_id="c",
    status=RunStatus.RUNNING,
    epoch=1,
    invocation_id="r",
    created_at=NOON,
    owner="o",
    lease_until=NOON + timedelta(days=1),
)


def test_a_lease_that_stays_as_it_is_for_three_times_its_length_is_given_up():
    clock = Clock()
    vigil = Vigil(timedelta(seconds=10), clock=clock)
    assert vigil.abandoned([RUN]) == []
    clock.advance(30)
    assert vigil.abandoned([RUN]) == []
    clock.advance(0.1)
    assert vigil.abandoned([RUN]) == [RUN]


def test_one_that_is_renewed_or_taken_over_is_watched_anew():
    clock = Clock()
    vigil = Vigil(timedelta(seconds=10), clock=clock)
    for seen in (RUN, replace(RUN, lease_until=NOON), replace(RUN, lease_until=NOON, epoch=2)):
        assert vigil.abandoned([seen]) == []
        clock.advance(29)
    assert vigil.abandoned([replace(RUN, lease_until=NOON, epoch=2)]) == []


def test_a_lease_is_watched_whichever_runs_are_shown_in_between():
    clock = Clock()
    vigil = Vigil(timedelta(seconds=10), clock=clock)
    other = replace(RUN, run_id="other")
    assert vigil.abandoned([RUN]) == []
    clock.advance(20)
    assert vigil.abandoned([other]) == []
    assert vigil.abandoned([]) == []
    clock.advance(20)
    assert vigil.abandoned([other, RUN]) == [RUN]


def test_of_too_many_those_that_were_not_seen_for_longest_are_forgotten():
    clock = Clock()
    vigil = Vigil(timedelta(seconds=10), clock=clock, most=2)
    first, second, third = (replace(RUN, run_id=run_id) for run_id in ("1", "2", "3"))
    vigil.abandoned([first, second, first, third])
    clock.advance(40)
    assert vigil.abandoned([first]) == [first]
    assert vigil.abandoned([second]) == []
