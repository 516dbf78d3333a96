"""What every ledger promises to workers."""

import asyncio
import math
import threading
import time
from dataclasses import replace

import pytest

from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, Reported, Verdict
from orchestrator.ledger.view import QueueAnswer, QueuedItem
from tests.contract.ledger_case import EPOCH, FAN_OUT, MAX_BYTES, RUN, other_opening, owner, report_of, slot

# Of the sixty that are asked for: a machine may have something else to do now and then.
AT_ONCE_SECONDS = 15


class TestClaim:
    async def test_a_claim_brings_everything_needed_to_run_the_instance(self, case):
        await case.open()
        item = QueuedItem(slot(7), b'{"n":\n7}', key="doc-7")
        assert await case.orchestrator.queue(RUN, EPOCH, [item], claim_deadline_seconds=30) == [QueueAnswer.OK]
        claimed = case.claim(slot(7))
        assert (claimed.run_id, claimed.slot, claimed.token) == (RUN, slot(7), "t1")
        assert (claimed.item, claimed.key) == (b'{"n":\n7}', "doc-7")
        assert (claimed.delivery, claimed.briefing_hash, claimed.progress) == (1, "hash", ())
        assert case.worker.briefing(RUN, FAN_OUT) == b"brief"

    async def test_the_same_token_again_is_answered_as_it_was_the_first_time(self, case):
        await case.opened(slot(0))
        first = case.ask(slot(0))
        await case.orchestrator.cancel(RUN, EPOCH)
        assert case.ask(slot(0)) == first

    async def test_another_claim_is_busy_while_the_lease_lives(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(14.9)
        assert case.verdict(slot(0), "t2") is Verdict.BUSY

    async def test_a_lease_that_has_ended_can_be_claimed_once_it_is_queued_again_and_counts_a_delivery(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(15.1)
        assert case.verdict(slot(0), "t2") is Verdict.BUSY
        await case.queue(slot(0))
        assert case.claim(slot(0), "t2").delivery == 2
        assert case.report(slot(0), "t1") is Reported.STALE

    async def test_a_lease_without_end_never_lapses(self, case):
        await case.opened(slot(0))
        case.ask(slot(0), ttl=math.inf)
        case.clock.advance(10**6)
        assert case.verdict(slot(0), "t2") is Verdict.BUSY

    async def test_a_claim_of_many_is_answered_one_by_one_in_order(self, case):
        await case.opened(slot(0), slot(1), slot(3))
        case.claim(slot(1), "other")
        await case.close(slot(3))
        answers = case.ask(slot(0), slot(1), slot(2), slot(3))
        assert [one.verdict for one in answers] == [Verdict.OK, Verdict.BUSY, Verdict.UNKNOWN, Verdict.DONE]

    async def test_what_is_reported_or_closed_is_done(self, case):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        case.report(slot(0))
        assert case.verdict(slot(0)) is Verdict.DONE
        await case.close(slot(0), slot(1))
        assert case.verdict(slot(0), "t2") is case.verdict(slot(1), "t2") is Verdict.DONE

    @pytest.mark.parametrize("where", [slot(5), slot(0, 1), slot(10**6), Slot("nowhere", 0), slot(-1)])
    async def test_what_was_not_queued_is_unknown(self, case, where):
        await case.opened(slot(0))
        assert case.verdict(where) is Verdict.UNKNOWN

    async def test_a_run_that_was_never_opened_is_unknown(self, case):
        assert case.verdict(slot(0)) is Verdict.UNKNOWN
        assert case.worker.briefing(RUN, FAN_OUT) is None

    async def test_a_hint_of_an_earlier_generation_is_done(self, case):
        await case.opened(slot(0))
        await case.orchestrator.reset(RUN, EPOCH, [slot(0, 1)])
        await case.queue(slot(0, 1))
        assert case.verdict(slot(0)) is Verdict.DONE
        assert case.claim(slot(0, 1)).delivery == 1


class TestBeat:
    async def test_a_beat_extends_the_lease(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(10)
        assert case.beat(slot(0), "t1") is Beat.OK
        case.clock.advance(10)
        assert case.verdict(slot(0), "t2") is Verdict.BUSY

    async def test_a_beat_after_the_end_takes_the_lease_back_where_nobody_took_it(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(20)
        await case.queue(slot(0))
        assert case.beat(slot(0), "t1") is Beat.OK
        assert case.verdict(slot(0), "t2") is Verdict.BUSY

    async def test_a_beat_is_lost_once_another_has_claimed(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(20)
        await case.queue(slot(0))
        case.claim(slot(0), "t2")
        assert case.beat(slot(0), "t1") is Beat.LOST
        assert case.beat(slot(0), "t2") is Beat.OK

    async def test_a_beat_of_what_is_not_known_is_lost(self, case):
        assert case.beat(slot(0)) is Beat.LOST
        await case.opened(slot(0))
        assert case.beat(slot(0), "") is case.beat(slot(0), "t1") is Beat.LOST

    async def test_a_beat_of_a_released_lease_does_not_take_it_back(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.release(owner(), has_died=True)
        assert case.beat(slot(0), "t1") is Beat.OK
        await case.queue(slot(0))
        assert case.verdict(slot(0), "t2") is Verdict.OK


class TestReport:
    async def test_a_report_comes_back_as_it_was_given_until_it_is_closed(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        assert case.report(slot(0), partial='{"é": 1}') is Reported.OK
        assert await case.reports() == await case.reports() == [report_of(slot(0), partial='{"é": 1}')]
        await case.close(slot(0))
        assert await case.reports() == []

    async def test_the_same_report_again_is_accepted_and_stored_once(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        assert [case.report(slot(0)), case.report(slot(0))] == [Reported.OK, Reported.OK]
        assert len(await case.reports()) == 1

    async def test_the_first_report_of_a_token_stays(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.report(slot(0), partial="1")
        case.report(slot(0), partial="2")
        assert [one.partial for one in await case.reports()] == ["1"]

    async def test_a_late_finisher_whose_slot_nobody_took_is_accepted(self, case):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0), "t1")
        case.claim(slot(1), "t1")
        case.clock.advance(100)
        await case.queue(slot(1))
        assert case.report(slot(0)) is case.report(slot(1)) is Reported.OK

    async def test_a_token_that_was_never_granted_or_replaced_is_stale(self, case):
        await case.opened(slot(0))
        assert case.report(slot(0), "") is case.report(slot(0), "t1") is Reported.STALE
        case.claim(slot(0), "t1")
        assert case.report(slot(0), "t2") is case.report(slot(0, 1), "t1") is Reported.STALE
        assert await case.reports() == []

    async def test_a_contribution_over_the_limit_is_refused_and_not_stored(self, case):
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        sent = [report_of(slot(0), partial="x" * (MAX_BYTES + 1)), report_of(slot(1), partial="x" * MAX_BYTES)]
        assert case.worker.report(RUN, sent) == [Reported.TOO_LARGE, Reported.OK]
        assert [one.slot for one in await case.reports()] == [slot(1)]
        assert case.report(slot(0), partial="small") is Reported.OK

    async def test_the_limit_counts_bytes(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        assert case.report(slot(0), partial="é" * (MAX_BYTES // 2 + 1)) is Reported.TOO_LARGE
        assert case.report(slot(0), partial="é" * (MAX_BYTES // 2)) is Reported.OK

    async def test_reports_wait_no_longer_than_asked(self, case):
        await case.opened(slot(0))
        started = time.monotonic()
        assert await case.reports(wait=0.05) == []
        assert 0.04 < time.monotonic() - started < AT_ONCE_SECONDS

    async def test_a_report_of_another_thread_wakes_the_orchestrator_at_once(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        waiting = asyncio.create_task(case.reports(wait=60))
        await asyncio.wait([waiting], timeout=0.1)
        thread = threading.Thread(target=case.report, args=(slot(0),))
        started = time.monotonic()
        thread.start()
        assert [one.slot for one in await waiting] == [slot(0)]
        assert time.monotonic() - started < AT_ONCE_SECONDS
        thread.join()

    @pytest.mark.parametrize("news", ["release", "decline"])
    async def test_what_is_worth_a_sweep_wakes_the_orchestrator_at_once(self, case, news):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        waiting = asyncio.create_task(case.reports(wait=60))
        await asyncio.wait([waiting], timeout=0.1)
        started = time.monotonic()
        if news == "release":
            await asyncio.to_thread(case.worker.release, owner(), has_died=True)
        else:
            await asyncio.to_thread(case.worker.decline, RUN, [slot(1)], worker="w1", reason="no graph")
        assert await waiting == []
        assert time.monotonic() - started < AT_ONCE_SECONDS

    async def test_reports_of_the_fan_outs_asked_for_come_together(self, case):
        await case.opened(slot(0))
        case.ask(slot(0))
        (where,) = await case.in_other(1)
        case.worker.report(RUN, [report_of(slot(0)), report_of(where)])
        found = await case.reports(of=(FAN_OUT, "fan-out-2"))
        assert {one.slot for one in found} == {slot(0), where}

    async def test_reports_of_other_fan_outs_stay_where_they_are(self, case):
        await case.opened(slot(0))
        case.ask(slot(0))
        (where,) = await case.in_other(1)
        case.worker.report(RUN, [report_of(slot(0)), report_of(where)])
        assert [one.slot for one in await case.reports()] == [slot(0)]
        assert await case.reports(of=()) == await case.reports(of=("nowhere",)) == []
        assert [one.slot for one in await case.reports(of=("fan-out-2",))] == [where]

    @pytest.mark.parametrize("of", [(FAN_OUT,), (FAN_OUT, "nowhere"), ()])
    async def test_news_of_other_fan_outs_wakes_nobody(self, case, of):
        await case.opened(slot(0))
        reported, lapsed = await case.in_other(1, 2)
        await case.orchestrator.queue(
            RUN, EPOCH, [QueuedItem(replace(lapsed, index=3), b"")], claim_deadline_seconds=30
        )
        waiting = asyncio.create_task(case.reports(wait=2, of=of))
        await asyncio.wait([waiting], timeout=0.1)
        await asyncio.to_thread(case.worker.report, RUN, [report_of(reported)])
        await asyncio.to_thread(case.worker.decline, RUN, [replace(lapsed, index=3)], worker="w1", reason="r")
        await asyncio.to_thread(case.worker.release, owner("w2"), has_died=True)
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        assert await waiting == []

    async def test_each_waits_for_its_own(self, case):
        await case.opened(slot(0))
        case.ask(slot(0))
        (where,) = await case.in_other(1)
        first = asyncio.create_task(case.reports(wait=60))
        second = asyncio.create_task(case.reports(wait=30, of=("fan-out-2",)))
        await asyncio.wait([first, second], timeout=0.1)
        await asyncio.to_thread(case.worker.report, RUN, [report_of(where)])
        assert [one.slot for one in await second] == [where]
        await asyncio.to_thread(case.report, slot(0))
        assert [one.slot for one in await first] == [slot(0)]


class TestRelease:
    async def test_a_released_lease_can_be_queued_and_claimed_at_once(self, case):
        await case.opened(slot(0), slot(1), slot(2))
        case.ask(slot(0), slot(1))
        case.claim(slot(2), by=owner("w2"))
        assert case.worker.release(owner(), has_died=True) == 2
        assert case.worker.release(owner(), has_died=True) == 0
        await case.queue(slot(0), slot(1), slot(2))
        answers = case.ask(slot(0), slot(1), slot(2), token="t2", by=owner("w3"))
        assert [one.verdict for one in answers] == [Verdict.OK, Verdict.OK, Verdict.BUSY]

    async def test_what_was_handed_back_can_be_queued_and_claimed_at_once_too(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        assert case.worker.release(owner(), has_died=False) == 1
        await case.queue(slot(0))
        assert case.verdict(slot(0), "t2") is Verdict.OK

    async def test_a_release_reaches_every_run(self, case):
        await case.opened(slot(0))
        await case.orchestrator.open("run-2", EPOCH, other_opening())
        where = Slot("fan-out-2", 1)
        await case.orchestrator.queue("run-2", EPOCH, [QueuedItem(where, b"")], claim_deadline_seconds=30)
        case.claim(slot(0))
        case.worker.claim("run-2", [where], owner=owner(), token="t", ttl_seconds=15)
        assert case.worker.release(owner(), has_died=True) == 2

    async def test_a_release_reaches_a_run_that_was_forgotten_and_opened_again(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        await case.orchestrator.forget(RUN, EPOCH)
        await case.opened(slot(0))
        case.claim(slot(0), "t2")
        assert case.worker.release(owner(), has_died=True) == 1

    async def test_a_finisher_after_its_release_is_accepted_where_nobody_took_the_slot(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.worker.release(owner(), has_died=True)
        assert case.report(slot(0)) is Reported.OK

    async def test_owners_are_listed_by_place_until_they_are_released(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), by=owner("w1", 1))
        case.verdict(slot(0), "t2")
        case.ask(slot(0), token="t3", by=owner("w2", 2))
        assert case.worker.owners("host:boot:ns") == [owner("w1", 1), owner("w2", 2)]
        assert case.worker.owners("host:boot:other") == []
        case.worker.release(owner("w1", 1), has_died=True)
        assert case.worker.owners("host:boot:ns") == [owner("w2", 2)]

    async def test_an_owner_that_claims_again_after_its_release_can_be_released_again(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.release(owner(), has_died=True)
        await case.queue(slot(0))
        case.claim(slot(0), "t2")
        assert case.worker.release(owner(), has_died=True) == 1

    async def test_a_lease_is_counted_by_one_release_only(self, case):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        case.worker.release(owner(), has_died=True)
        case.claim(slot(1))
        assert case.worker.release(owner(), has_died=True) == 1


class TestRegistry:
    async def test_a_worker_is_listed_with_its_facts_until_it_withdraws(self, case):
        case.worker.announce("w2", {"slots": 2}, ttl_seconds=15)
        case.worker.announce("w1", {"slots": 4, "graphs": ["g"]}, ttl_seconds=15)
        case.worker.announce("w1", {"slots": 8, "graphs": ["g"]}, ttl_seconds=15)
        first = {"slots": 8, "graphs": ["g"], "worker": "w1"}
        assert case.worker.workers() == [first, {"slots": 2, "worker": "w2"}]
        case.worker.withdraw("w2")
        case.worker.withdraw("nobody")
        assert case.worker.workers() == [first]

    async def test_a_silent_worker_is_not_listed(self, case):
        case.worker.announce("w1", {}, ttl_seconds=15)
        case.clock.advance(16)
        assert case.worker.workers() == []
