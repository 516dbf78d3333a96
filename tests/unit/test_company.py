"""Who runs beside whom in a process, and when the ledger learns of it."""

from typing import Any

import pytest

from orchestrator.errors import LedgerUnavailable
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, Claimed
from workers.heartbeat import Heartbeat
from workers.lease import Lease, Leases
from workers.loop import LoopThread


class Ledger:
    """Remembers what beats have said of each run."""

    def __init__(self):
        self.told = []
        self.is_away = False
        self.spoilt = ""

    def beat(self, run_id, held, *, ttl_seconds, in_company):
        if self.is_away:
            raise LedgerUnavailable("away")
        if run_id == self.spoilt:
            raise ValueError("its keys are of the wrong type")
        self.told += [(run_id, one.slot.index, in_company) for one in held]
        return [Beat.OK for _ in held]


def a_lease(run_id, index=0):
    where = Slot("f", index)
    return Lease(Claimed(run_id=run_id, slot=where, token="t", delivery=1, item=b"{}", briefing_hash=""))


@pytest.fixture
def process():
    """The leases of a process, its ledger and its heartbeat, which beats only when it is asked to."""
    loop, leases = LoopThread("test-loop"), Leases()
    ledger: Any = Ledger()
    yield leases, ledger, Heartbeat(ledger, leases, loop, every_seconds=60, ttl_seconds=15)
    loop.close()


def claimed(leases, lease):
    """Hold it, as a claim does."""
    with leases.coming(lease.work.run_id) as in_company:
        lease.is_told = in_company
        leases.add(lease)
    return in_company


def begin(leases, heartbeat, lease):
    leases.begin(lease)
    heartbeat.tell_company()


class TestCompany:
    def test_those_of_one_run_are_no_company_that_must_be_told(self, process):
        leases, ledger, heartbeat = process
        for index in range(3):
            lease = a_lease("a", index)
            assert not claimed(leases, lease)
            begin(leases, heartbeat, lease)
        assert ledger.told == []

    def test_a_claim_beside_another_run_says_so_and_the_neighbour_is_told_of_before_the_newcomer_begins(self, process):
        leases, ledger, heartbeat = process
        first, second = a_lease("a"), a_lease("b")
        assert not claimed(leases, first)
        begin(leases, heartbeat, first)
        assert claimed(leases, second)
        begin(leases, heartbeat, second)
        assert ledger.told == [("a", 0, True)]

    def test_what_is_told_once_costs_no_further_call(self, process):
        leases, ledger, heartbeat = process
        for run_id in ("a", "b"):
            for index in range(3):
                lease = a_lease(run_id, index)
                claimed(leases, lease)
                begin(leases, heartbeat, lease)
        assert sorted(ledger.told) == [("a", index, True) for index in range(3)]

    def test_two_claims_at_once_see_each_other(self, process):
        leases, _, _ = process
        with leases.coming("a") as first, leases.coming("b") as second:
            assert (first, second) == (False, True)
        with leases.coming("c") as third:
            assert not third

    def test_one_that_was_claimed_before_its_neighbour_came_is_told_of_where_the_neighbour_begins_first(self, process):
        leases, ledger, heartbeat = process
        first, second = a_lease("a"), a_lease("b")
        claimed(leases, first)
        claimed(leases, second)
        begin(leases, heartbeat, second)
        begin(leases, heartbeat, first)
        assert ledger.told == [("a", 0, True)]

    def test_while_the_ledger_is_away_the_newcomer_does_not_begin(self, process):
        leases, ledger, heartbeat = process
        first, second = a_lease("a"), a_lease("b")
        claimed(leases, first)
        begin(leases, heartbeat, first)
        claimed(leases, second)
        ledger.is_away = True
        with pytest.raises(LedgerUnavailable):
            begin(leases, heartbeat, second)
        ledger.is_away = False
        begin(leases, heartbeat, second)
        assert ledger.told == [("a", 0, True)]

    def test_every_beat_says_how_it_is_now(self, process):
        leases, ledger, heartbeat = process
        first, second = a_lease("a"), a_lease("b")
        for lease in (first, second):
            claimed(leases, lease)
            begin(leases, heartbeat, lease)
        ledger.told.clear()
        assert heartbeat.beat()
        assert sorted(ledger.told) == [("a", 0, True), ("b", 0, True)]
        leases.remove(second)
        ledger.told.clear()
        assert heartbeat.beat()
        assert ledger.told == [("a", 0, False)]

    def test_who_was_told_to_be_alone_is_told_of_again_when_the_next_one_comes(self, process):
        leases, ledger, heartbeat = process
        first, second, third = a_lease("a"), a_lease("b"), a_lease("b", 1)
        for lease in (first, second):
            claimed(leases, lease)
            begin(leases, heartbeat, lease)
        leases.remove(second)
        heartbeat.beat()
        ledger.told.clear()
        claimed(leases, third)
        begin(leases, heartbeat, third)
        assert ledger.told == [("a", 0, True)]

    def test_a_beat_that_is_not_answered_may_have_said_it(self, process):
        leases, ledger, heartbeat = process
        first, second, third = a_lease("a"), a_lease("b"), a_lease("b", 1)
        for lease in (first, second):
            claimed(leases, lease)
            begin(leases, heartbeat, lease)
        leases.remove(second)
        ledger.is_away = True
        assert not heartbeat.beat()
        ledger.is_away = False
        ledger.told.clear()
        claimed(leases, third)
        begin(leases, heartbeat, third)
        assert ledger.told == [("a", 0, True)]

    @pytest.mark.parametrize("failing", ["a", "b"])
    def test_a_run_whose_keys_are_spoilt_keeps_no_other_from_beginning_or_being_beaten(self, process, failing):
        leases, ledger, heartbeat = process
        first, second = a_lease("a"), a_lease("b")
        claimed(leases, first)
        begin(leases, heartbeat, first)
        claimed(leases, second)
        ledger.spoilt = failing
        begin(leases, heartbeat, second)
        ledger.told.clear()
        assert not heartbeat.beat()
        (left,) = {"a", "b"} - {failing}
        assert ledger.told == [(left, 0, True)]
