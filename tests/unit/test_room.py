"""Who runs beside whom in one process, and what the ledger is told of it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.errors import LedgerUnavailable
from orchestrator.identity import Slot
from orchestrator.ledger.claim import SUSPECT_AFTER, Beat, Claimed
from tests.service.worker import wait_until
from workers.heartbeat import Heartbeat
from workers.lease import Lease, Leases
from workers.loop import LoopThread
from workers.room import Room


class Thread:
    """Does one thing at a time beside the test."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.is_in = threading.Event()
        self.may_go = threading.Event()

    def stay(self, place):
        """Be there until `may_go` is set."""

        def do():
            with place:
                self.is_in.set()
                assert self.may_go.wait(10)

        return self._pool.submit(do)

    def stay_alone(self, room, *, unless=lambda: False):
        return self.stay(_alone(room, unless))

    def close(self) -> None:
        self.may_go.set()
        self._pool.shutdown()


@contextmanager
def _alone(room, unless):
    with room.together(), room.alone(unless=unless):
        yield


@pytest.fixture
def new_thread():
    made = []

    def new():
        made.append(Thread())
        return made[-1]

    yield new
    for thread in made:
        thread.close()


def wanting(room, count=1):
    """Wait until so many want the room alone."""
    wait_until(lambda: room._hermits == count, what="somebody wants it alone")


class TestRoom:
    def test_many_are_inside_together(self, new_thread):
        room = Room()
        threads = [new_thread() for _ in range(3)]
        for thread in threads:
            thread.stay(room.together())
        assert all(thread.is_in.wait(5) for thread in threads)

    def test_whoever_wants_it_alone_waits_for_those_inside_and_keeps_others_out(self, new_thread):
        room, (neighbour, hermit, newcomer) = Room(), [new_thread() for _ in range(3)]
        neighbour.stay(room.together())
        assert neighbour.is_in.wait(5)
        hermit.stay_alone(room)
        wanting(room)
        newcomer.stay(room.together())
        assert not hermit.is_in.wait(0.1)
        neighbour.may_go.set()
        assert hermit.is_in.wait(5)
        assert not newcomer.is_in.wait(0.1)
        hermit.may_go.set()
        assert newcomer.is_in.wait(5)

    def test_two_that_want_it_alone_have_it_one_after_the_other(self, new_thread):
        room, (one, other) = Room(), [new_thread() for _ in range(2)]
        both_are_inside, alone = threading.Barrier(2), []

        @contextmanager
        def from_inside():
            with room.together():
                both_are_inside.wait(5)
                with room.alone(unless=lambda: False):
                    alone.append("comes")
                    yield
                    alone.append("goes")

        done = [thread.stay(from_inside()) for thread in (one, other)]
        wanting(room, 2)
        one.may_go.set()
        other.may_go.set()
        assert [end.result(5) for end in done] == [None, None]
        assert alone == ["comes", "goes", "comes", "goes"]

    def test_whoever_does_not_want_it_any_more_goes_on_and_lets_nobody_else_in_beside_another(self, new_thread):
        room, (neighbour, hermit, newcomer) = Room(), [new_thread() for _ in range(3)]
        is_cancelled = threading.Event()
        neighbour.stay(room.together())
        assert neighbour.is_in.wait(5)
        hermit.stay_alone(room, unless=is_cancelled.is_set)
        wanting(room)
        is_cancelled.set()
        assert hermit.is_in.wait(5)
        hermit.may_go.set()
        newcomer.stay(room.together())
        assert newcomer.is_in.wait(5)

    def test_a_room_that_is_closed_keeps_nobody_waiting(self, new_thread):
        room, (hermit, outside) = Room(), [new_thread() for _ in range(2)]
        hermit.stay_alone(room)
        assert hermit.is_in.wait(5)
        outside.stay(room.together())
        room.close()
        assert outside.is_in.wait(5)


class Ledger:
    """Remembers what beats have said of each run."""

    def __init__(self):
        self.told = []
        self.is_away = False

    def beat(self, run_id, held, *, ttl_seconds, in_company):
        if self.is_away:
            raise LedgerUnavailable("away")
        self.told += [(run_id, one.slot.index, in_company) for one in held]
        return [Beat.OK for _ in held]


def a_lease(run_id, index=0, *, losses=0):
    facts = {"token": "t", "delivery": 1, "item": b"{}", "briefing_hash": "", "lost_in_company": losses}
    return Lease(Claimed(run_id=run_id, slot=Slot("f", index), **facts))


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
    heartbeat.tell_company(lease)


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

    def test_a_suspect_that_has_the_room_alone_is_told_to_be_alone_before_it_begins(self, process):
        leases, ledger, heartbeat = process
        neighbour, suspect = a_lease("a"), a_lease("b", losses=SUSPECT_AFTER)
        claimed(leases, neighbour)
        begin(leases, heartbeat, neighbour)
        assert claimed(leases, suspect)
        leases.remove(neighbour)
        begin(leases, heartbeat, suspect)
        assert ledger.told == [("b", 0, False)]

    def test_a_suspect_that_waits_is_in_the_company_of_the_one_that_runs(self, process):
        leases, ledger, heartbeat = process
        one, other = a_lease("a", losses=SUSPECT_AFTER), a_lease("b", losses=SUSPECT_AFTER)
        assert not claimed(leases, other)
        assert claimed(leases, one)
        begin(leases, heartbeat, one)
        assert sorted(ledger.told) == [("a", 0, False), ("b", 0, True)]
