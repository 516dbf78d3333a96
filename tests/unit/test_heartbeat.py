"""What keeps leases alive, and what ends them."""

import asyncio
import threading

import pytest

from backends.telemetry.prometheus import PrometheusMeter
from orchestrator.errors import LedgerUnavailable
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, Claimed
from orchestrator.metrics.meter import UNMETERED
from orchestrator.metrics.metric import BEAT_GAP
from tests.service.worker import wait_until
from workers.heartbeat import Heartbeat
from workers.lease import Lease, Leases
from workers.loop import LoopThread


class Ledger:
    """Answers beats as it is told to."""

    def __init__(self, answer=Beat.OK):
        self.answer = answer
        self.beats = []

    def beat(self, run_id, held, *, ttl_seconds, in_company):
        self.beats.append((run_id, [one.slot.index for one in held], ttl_seconds))
        if self.answer is None:
            raise LedgerUnavailable("away")
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in held]


@pytest.fixture
def loop():
    thread = LoopThread("test-loop")
    yield thread
    thread.close()


def a_lease(index=0, run_id="r"):
    return Lease(Claimed(run_id=run_id, slot=Slot("f", index), token="t", delivery=1, item=b"{}", briefing_hash=""))


def a_heartbeat(ledger, loop, *leases, meter=UNMETERED):
    held = Leases()
    for lease in leases:
        held.add(lease)
    return Heartbeat(ledger, held, loop, every_seconds=0.01, ttl_seconds=15, meter=meter)


def test_what_is_held_is_beaten_with_one_call_a_run(loop):
    ledger = Ledger()
    assert a_heartbeat(ledger, loop, a_lease(0), a_lease(1), a_lease(7, run_id="s")).beat()
    assert sorted((run, sorted(indexes), ttl) for run, indexes, ttl in ledger.beats) == [
        ("r", [0, 1], 15),
        ("s", [7], 15),
    ]


def test_nothing_is_asked_where_nothing_is_held(loop):
    ledger = Ledger()
    a_heartbeat(ledger, loop).beat()
    assert ledger.beats == []


def test_work_goes_on_while_the_ledger_is_away(loop):
    lease = a_lease()
    assert not a_heartbeat(Ledger(answer=None), loop, lease).beat()
    assert not lease.cancellation.is_requested


def test_the_thread_outlives_what_nobody_expected_and_says_it(loop, caplog):
    ledger = Ledger(answer=ValueError("a mistake of ours"))
    heartbeat = a_heartbeat(ledger, loop, a_lease())
    heartbeat.start()
    try:
        wait_until(lambda: len(ledger.beats) > 1, what="it is tried again")
        ledger.answer = Beat.OK
        before = len(ledger.beats)
        wait_until(lambda: len(ledger.beats) > before + 1, what="it goes on")
    finally:
        heartbeat.close()
    assert "a mistake of ours" in caplog.text


@pytest.mark.parametrize(("answer", "is_lost"), [(Beat.LOST, True), (Beat.CANCEL, False)])
def test_the_ledgers_word_stops_the_work(answer, is_lost, loop):
    lease = a_lease()

    async def work():
        lease.task = asyncio.current_task()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "stopped"

    running = loop.start(work())
    wait_until(lambda: lease.task, what="the work begins")
    a_heartbeat(Ledger(answer), loop, lease).beat()
    assert running.result(timeout=5) == "stopped"
    assert lease.is_lost is is_lost


def test_a_loop_that_does_not_turn_is_named_with_its_line(loop, caplog):
    go = threading.Event()
    blocked = loop.start(_block(go))
    heartbeat = a_heartbeat(Ledger(), loop)
    heartbeat.start()
    try:
        wait_until(lambda: "event loop has not turned" in caplog.text, what="it is named")
        assert "_block" in caplog.text
    finally:
        go.set()
        blocked.result(timeout=5)
        heartbeat.close()


async def _block(go):
    go.wait()


def test_a_loop_outlives_what_tries_to_end_the_process(loop):
    async def interrupt():
        raise KeyboardInterrupt

    async def work():
        return "done"

    with pytest.raises(KeyboardInterrupt):
        loop.start(interrupt()).result(timeout=5)
    assert loop.start(work()).result(timeout=5) == "done"


def test_the_gap_between_two_beats_that_were_heard_is_measured(loop):
    lease, ledger, meter = a_lease(), Ledger(), PrometheusMeter([BEAT_GAP])
    lease.heard_at -= 7
    heartbeat = a_heartbeat(ledger, loop, lease, meter=meter)
    for ledger.answer in (None, Beat.OK, Beat.OK, Beat.LOST):
        heartbeat.beat()
    count, total = (meter.registry.get_sample_value(f"{BEAT_GAP.name}_{end}") for end in ("count", "sum"))
    # The beat that was not heard is part of the gap.
    assert (count, round(total or 0)) == (2, 7)
