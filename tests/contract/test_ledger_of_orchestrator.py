"""What every ledger promises to the owner of a run."""

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.errors import Fenced, LedgerLost
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, Reported, Verdict
from orchestrator.ledger.view import Declined, LiveInstance, LiveState, Opening, Overdue, QueueAnswer, QueuedItem, Sweep
from tests.contract.ledger_case import (
    EPOCH,
    FAN_OUT,
    RUN,
    VERBS,
    every_verb,
    other_opening,
    owner,
    report_of,
    slot,
)


class TestOpen:
    async def test_what_is_recorded_is_closed_with_its_report_dropped(self, case):
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.worker.report(RUN, [report_of(slot(0)), report_of(slot(1))])
        await case.open(0)
        assert case.verdict(slot(0), "t2") is Verdict.DONE
        assert [one.slot for one in await case.reports()] == [slot(1)]

    async def test_what_is_closed_but_not_recorded_is_free_again(self, case):
        await case.opened(slot(0))
        await case.close(slot(0))
        await case.open()
        assert (await case.sweep(slot(0))).unknown == (slot(0),)
        assert await case.queue(slot(0)) == [QueueAnswer.OK]
        assert case.verdict(slot(0)) is Verdict.OK

    async def test_live_leases_and_delivery_counts_are_kept(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(20)
        await case.queue(slot(0))
        case.claim(slot(0), "t2")
        await case.open()
        await case.open()
        assert case.verdict(slot(0), "t3") is Verdict.BUSY
        assert case.beat(slot(0), "t2") is Beat.OK
        case.clock.advance(20)
        await case.queue(slot(0))
        assert case.claim(slot(0), "t3").delivery == 3

    async def test_the_latest_briefing_counts(self, case):
        await case.opened(slot(0))
        await case.open(briefing=b"other")
        assert case.worker.briefing(RUN, FAN_OUT) == b"other"

    async def test_the_records_bitmap_may_change_afterwards(self, case):
        opening = other_opening()
        await case.orchestrator.open(RUN, EPOCH, opening)
        opening.recorded.add(1)
        where = Slot("fan-out-2", 1)
        assert (await case.sweep(where)).unknown == (where,)

    async def test_a_lower_epoch_is_fenced_and_a_higher_one_takes_over(self, case):
        await case.opened(slot(0))
        with pytest.raises(Fenced):
            await case.open(epoch=EPOCH - 1)
        await case.open(epoch=EPOCH + 1)
        with pytest.raises(Fenced):
            await case.open(epoch=EPOCH)


class TestEpoch:
    @pytest.mark.parametrize("verb", VERBS)
    async def test_an_overtaken_orchestrator_is_fenced_in_every_verb(self, case, verb):
        await case.opened(slot(0))
        await case.open(epoch=EPOCH + 1)
        with pytest.raises(Fenced) as caught:
            await every_verb(case, EPOCH, [slot(0)])[verb]()
        assert (caught.value.run_id, caught.value.epoch) == (RUN, EPOCH)
        assert case.verdict(slot(0)) is Verdict.OK

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_ledger_that_knows_an_earlier_epoch_is_lost(self, case, verb):
        await case.opened(slot(0))
        with pytest.raises(LedgerLost):
            await every_verb(case, EPOCH + 1, [slot(0)])[verb]()

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_ledger_that_knows_nothing_is_lost(self, case, verb):
        with pytest.raises(LedgerLost):
            await every_verb(case, EPOCH, [slot(0)])[verb]()

    @pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.id != "cancel"])
    async def test_a_ledger_that_does_not_know_the_fan_out_is_lost(self, case, verb):
        await case.orchestrator.open(RUN, EPOCH, other_opening())
        with pytest.raises(LedgerLost):
            await every_verb(case, EPOCH, [slot(0)])[verb]()

    async def test_reports_of_a_run_that_is_not_known_say_so(self, case):
        with pytest.raises(LedgerLost):
            await case.reports()

    async def test_opening_again_mends_it(self, case):
        with pytest.raises(LedgerLost):
            await case.queue(slot(0))
        await case.open(1)
        assert await case.queue(slot(0), slot(1)) == [QueueAnswer.OK, QueueAnswer.DONE]

    async def test_a_forgotten_run_fences_an_earlier_epoch(self, case):
        await case.open()
        await case.orchestrator.forget(RUN, EPOCH)
        with pytest.raises(Fenced):
            await case.open(epoch=EPOCH - 1)
        with pytest.raises(LedgerLost):
            await case.queue(slot(0))


class TestQueue:
    async def test_queueing_again_is_harmless_and_leaves_what_is_under_way_alone(self, case):
        await case.opened(slot(0), slot(1), slot(2), slot(3))
        case.ask(slot(1), slot(2))
        case.report(slot(2))
        await case.close(slot(3))
        expected = [QueueAnswer.OK, QueueAnswer.BUSY, QueueAnswer.DONE, QueueAnswer.DONE]
        assert await case.queue(slot(0), slot(1), slot(2), slot(3)) == expected

    async def test_queueing_nothing_is_harmless(self, case):
        await case.open()
        assert await case.queue() == []

    async def test_a_lapsed_slot_is_queued_again_with_its_deliveries(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.clock.advance(20)
        assert await case.queue(slot(0)) == [QueueAnswer.OK]
        assert case.claim(slot(0), "t2").delivery == 2

    async def test_deliveries_that_the_record_knows_of_are_counted_on(self, case):
        await case.open()
        known = [QueuedItem(slot(0), b"", deliveries=3)]
        await case.orchestrator.queue(RUN, EPOCH, known, claim_deadline_seconds=1)
        assert case.claim(slot(0), "t1").delivery == 4
        case.clock.advance(20)
        await case.orchestrator.queue(RUN, EPOCH, known, claim_deadline_seconds=1)
        assert case.claim(slot(0), "t2").delivery == 5

    async def test_items_of_any_bytes_and_a_higher_generation_of_a_closed_slot_are_taken(self, case):
        await case.opened(slot(0))
        await case.close(slot(0))
        item = QueuedItem(slot(0, 1), bytes(range(256)))
        assert await case.orchestrator.queue(RUN, EPOCH, [item], claim_deadline_seconds=1) == [QueueAnswer.OK]
        assert case.claim(slot(0, 1)).item == bytes(range(256))

    async def test_a_higher_generation_ends_what_the_earlier_one_was_at(self, case):
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.report(slot(1))
        assert await case.queue(slot(0, 1), slot(1, 1)) == [QueueAnswer.OK, QueueAnswer.OK]
        assert case.report(slot(0)) is Reported.STALE
        assert await case.reports() == []


class TestClose:
    async def test_closing_again_is_harmless(self, case):
        await case.opened(slot(0))
        await case.close(slot(0))
        await case.close(slot(0), slot(1))
        assert case.verdict(slot(0)) is case.verdict(slot(1)) is Verdict.DONE

    async def test_a_late_close_leaves_a_later_generation_alone(self, case):
        await case.opened(slot(0))
        await case.orchestrator.reset(RUN, EPOCH, [slot(0, 1)])
        await case.queue(slot(0, 1))
        await case.close(slot(0))
        assert case.verdict(slot(0, 1)) is Verdict.OK

    async def test_a_closed_slots_holder_is_stale(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        await case.close(slot(0))
        assert case.beat(slot(0)) is Beat.LOST
        assert case.report(slot(0)) is Reported.STALE


class TestReset:
    async def test_a_closed_slot_runs_again_under_its_new_generation(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.report(slot(0))
        await case.close(slot(0))
        await case.orchestrator.reset(RUN, EPOCH, [slot(0, 1)])
        assert await case.queue(slot(0, 1)) == [QueueAnswer.OK]
        assert case.claim(slot(0, 1), "t2").delivery == 1
        assert case.worker.report(RUN, [report_of(slot(0, 1), "t2")]) == [Reported.OK]
        await case.close(slot(0, 1))
        assert case.verdict(slot(0, 1)) is Verdict.DONE
        assert await case.queue(slot(0, 1)) == [QueueAnswer.DONE]

    async def test_a_reported_or_running_slot_is_freed_and_its_deliveries_count_on(self, case):
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.report(slot(0))
        await case.orchestrator.reset(RUN, EPOCH, [slot(0), slot(1)])
        assert await case.reports() == []
        assert case.beat(slot(1)) is Beat.LOST
        assert case.verdict(slot(0), "t2") is Verdict.UNKNOWN
        await case.queue(slot(0))
        assert case.claim(slot(0), "t2").delivery == 2


class TestSweep:
    async def test_nothing_is_named_while_all_goes_well(self, case):
        await case.opened(slot(0), slot(1), slot(2))
        case.ask(slot(1), slot(2))
        case.report(slot(2))
        await case.close(slot(2))
        assert await case.sweep(slot(0), slot(1), slot(2)) == Sweep()

    async def test_a_lease_that_has_ended_is_named_until_it_is_queued_again(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.clock.advance(20)
        first, second = await case.sweep(slot(0)), await case.sweep(slot(0))
        assert first == second
        (lapse,) = first.lapsed
        assert (lapse.slot, lapse.owner, lapse.delivery) == (slot(0), owner(), 1)
        assert (lapse.alone, lapse.handed_back) == (True, False)
        await case.queue(slot(0))
        assert await case.sweep(slot(0)) == Sweep()

    async def test_a_released_lease_is_named_at_once(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.worker.release(owner(), has_died=True)
        assert [one.slot for one in (await case.sweep(slot(0))).lapsed] == [slot(0)]

    async def test_only_what_is_outstanding_is_named(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.clock.advance(20)
        assert await case.sweep() == Sweep()

    async def test_lapses_of_one_owner_are_not_alone_even_when_they_come_one_by_one(self, case):
        await case.opened(slot(0), slot(1), slot(2))
        case.claim(slot(0), "t0")
        case.claim(slot(2), "t2", by=owner("w2"))
        case.clock.advance(10)
        case.claim(slot(1), "t1")
        case.clock.advance(6)
        found = await case.sweep(slot(0), slot(1), slot(2))
        assert [(one.slot.index, one.alone) for one in found.lapsed] == [(0, False), (2, True)]
        await case.queue(slot(0), slot(2))
        case.clock.advance(10)
        found = await case.sweep(slot(0), slot(1), slot(2))
        assert [(one.slot.index, one.alone) for one in found.lapsed] == [(1, False)]

    async def test_a_slot_lost_in_company_is_alone_when_it_is_lost_alone_later(self, case):
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.worker.release(owner(), has_died=True)
        assert not any(one.alone for one in (await case.sweep(slot(0), slot(1))).lapsed)
        await case.queue(slot(0), slot(1))
        case.claim(slot(0), "t2", by=owner("w2"))
        case.clock.advance(20)
        assert [(one.delivery, one.alone) for one in (await case.sweep(slot(0))).lapsed] == [(2, True)]

    async def test_what_an_owner_that_did_not_die_hands_back_is_not_alone(self, case):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        case.worker.release(owner(), has_died=False)
        case.worker.release(owner(), has_died=True)
        (lapse,) = (await case.sweep(slot(0))).lapsed
        assert (lapse.owner, lapse.delivery, lapse.alone, lapse.handed_back) == (owner(), 1, False, True)
        await case.queue(slot(0))
        case.claim(slot(0), "t2", by=owner("w2"))
        case.worker.release(owner("w2"), has_died=True)
        assert [(one.delivery, one.alone) for one in (await case.sweep(slot(0))).lapsed] == [(2, True)]

    async def test_a_slot_handed_back_and_then_lost_is_alone(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.worker.release(owner(), has_died=False)
        await case.queue(slot(0))
        case.claim(slot(0), "t2")
        case.clock.advance(20)
        assert [(one.delivery, one.alone) for one in (await case.sweep(slot(0))).lapsed] == [(2, True)]

    async def test_a_queued_slot_past_its_deadline_is_overdue(self, case):
        await case.open()
        await case.queue(slot(0), slot(1), deadline=30)
        case.clock.advance(29)
        assert await case.sweep(slot(0), slot(1)) == Sweep()
        case.clock.advance(2)
        assert (await case.sweep(slot(0))).overdue == (Overdue(slot(0), overtaken=False),)
        case.claim(slot(1))
        assert (await case.sweep(slot(0))).overdue == (Overdue(slot(0), overtaken=True),)
        await case.queue(slot(0))
        assert await case.sweep(slot(0)) == Sweep()
        case.clock.advance(31)
        assert (await case.sweep(slot(0))).overdue == (Overdue(slot(0), overtaken=False),)

    async def test_a_declined_slot_is_named_until_it_is_queued_again_or_claimed(self, case):
        await case.opened(slot(0), slot(1))
        case.worker.decline(RUN, [slot(0), slot(1)], worker="w1", reason="no such graph")
        case.claim(slot(1))
        case.clock.advance(10)
        assert await case.sweep(slot(0), slot(1)) == Sweep(declined=(Declined(slot(0), "w1", "no such graph"),))
        await case.queue(slot(0))
        assert await case.sweep(slot(0), slot(1)) == Sweep()

    async def test_only_a_queued_slot_can_be_declined(self, case):
        await case.opened(slot(0))
        case.worker.decline("no-run", [slot(0)], worker="w1", reason="r")
        case.worker.decline(RUN, [slot(0, 1), slot(5)], worker="w1", reason="r")
        case.claim(slot(0))
        case.worker.decline(RUN, [slot(0)], worker="w2", reason="r")
        assert await case.sweep(slot(0)) == Sweep()

    async def test_what_the_ledger_does_not_know_is_named(self, case):
        await case.opened(slot(0), slot(1))
        await case.orchestrator.reset(RUN, EPOCH, [slot(1)])
        assert (await case.sweep(slot(0), slot(1), slot(2))).unknown == (slot(1), slot(2))

    async def test_a_generation_that_the_ledger_does_not_know_is_named(self, case):
        await case.opened(slot(0), slot(1))
        await case.close(slot(1))
        assert set((await case.sweep(slot(0, 1), slot(1, 1))).unknown) == {slot(0, 1), slot(1, 1)}


class TestCancel:
    @pytest.mark.parametrize("fan_out", [None, FAN_OUT])
    async def test_claims_and_beats_are_told(self, case, fan_out):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        await case.orchestrator.cancel(RUN, EPOCH, fan_out=fan_out)
        assert case.beat(slot(0)) is Beat.CANCEL
        assert case.verdict(slot(1)) is Verdict.CANCELLED
        assert case.report(slot(0)) is Reported.OK

    async def test_another_fan_out_goes_on(self, case):
        await case.opened(slot(0))
        await case.orchestrator.open(RUN, EPOCH, other_opening())
        await case.orchestrator.cancel(RUN, EPOCH, fan_out="fan-out-2")
        assert case.verdict(slot(0)) is Verdict.OK

    async def test_the_flag_stays_when_the_ledger_is_opened_again(self, case):
        await case.opened(slot(0))
        await case.orchestrator.cancel(RUN, EPOCH, fan_out=FAN_OUT)
        await case.open()
        assert case.verdict(slot(0)) is Verdict.CANCELLED

    @pytest.mark.parametrize("fan_out", [None, FAN_OUT])
    async def test_a_later_owner_decides_anew(self, case, fan_out):
        await case.opened(slot(0))
        await case.orchestrator.cancel(RUN, EPOCH, fan_out=fan_out)
        await case.open(epoch=EPOCH + 1)
        assert case.verdict(slot(0)) is Verdict.OK


class TestForget:
    async def test_a_forgotten_fan_out_is_unknown_and_the_others_stay(self, case):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        case.report(slot(0))
        await case.orchestrator.open(RUN, EPOCH, other_opening())
        await case.orchestrator.forget(RUN, EPOCH, fan_out=FAN_OUT)
        assert case.verdict(slot(1)) is Verdict.UNKNOWN
        assert await case.reports() == []
        assert case.worker.briefing(RUN, FAN_OUT) is None
        assert case.worker.briefing(RUN, "fan-out-2") is not None

    async def test_a_forgotten_run_leaves_a_tombstone(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        await case.orchestrator.forget(RUN, EPOCH)
        await case.orchestrator.forget(RUN, EPOCH)
        assert case.verdict(slot(0)) is case.verdict(slot(0), "t2") is Verdict.DONE

    async def test_what_still_runs_of_a_forgotten_run_is_to_be_cancelled_and_its_report_is_not_stale(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        await case.orchestrator.cancel(RUN, EPOCH)
        await case.orchestrator.forget(RUN, EPOCH)
        assert case.beat(slot(0)) is Beat.CANCEL
        assert case.report(slot(0)) is Reported.OVER
        await case.opened(slot(0))
        assert case.beat(slot(0)) is Beat.LOST
        assert case.report(slot(0)) is Reported.STALE

    async def test_a_run_of_the_same_id_can_be_opened_after_one_was_forgotten(self, case):
        await case.opened(slot(0))
        await case.close(slot(0))
        await case.orchestrator.forget(RUN, EPOCH)
        await case.opened(slot(0))
        assert case.verdict(slot(0)) is Verdict.OK
        assert case.verdict(Slot("fan-out-2", 0)) is Verdict.UNKNOWN

    async def test_an_overtaken_orchestrator_forgets_nothing(self, case):
        await case.opened(slot(0))
        await case.open(epoch=EPOCH + 1)
        for fan_out in (None, FAN_OUT):
            with pytest.raises(Fenced):
                await case.orchestrator.forget(RUN, EPOCH, fan_out=fan_out)
        assert case.verdict(slot(0)) is Verdict.OK

    async def test_forgetting_what_is_not_there_is_harmless(self, case):
        await case.orchestrator.forget(RUN, EPOCH, fan_out=FAN_OUT)
        await case.orchestrator.forget(RUN, EPOCH)


class TestReader:
    async def test_live_instances_are_shown_by_index_with_what_people_ask_for(self, case):
        await case.open()
        items = [QueuedItem(slot(index), b"item", key=f"key-{index}") for index in (10, 2, 1, 3)]
        await case.orchestrator.queue(RUN, EPOCH, items, claim_deadline_seconds=30)
        case.ask(slot(10), slot(2), slot(3))
        case.report(slot(2))
        await case.close(slot(3))
        assert await case.orchestrator.live(RUN, FAN_OUT) == [
            LiveInstance(slot(1), LiveState.QUEUED, 0, None, "key-1"),
            LiveInstance(slot(2), LiveState.REPORTED, 1, "w1", "key-2"),
            LiveInstance(slot(10), LiveState.RUNNING, 1, "w1", "key-10"),
        ]

    async def test_the_highest_epoch_that_was_there_is_known_also_of_a_forgotten_run(self, case):
        assert await case.orchestrator.epoch(RUN) == 0
        for epoch in (EPOCH, EPOCH + 1):
            await case.open(epoch=epoch)
            assert await case.orchestrator.epoch(RUN) == epoch
        await case.orchestrator.forget(RUN, EPOCH + 2)
        assert await case.orchestrator.epoch(RUN) == EPOCH + 2

    async def test_nothing_is_live_where_nothing_is_known(self, case):
        assert await case.orchestrator.live(RUN, FAN_OUT) == []
        await case.opened(slot(0))
        await case.orchestrator.reset(RUN, EPOCH, [slot(0)])
        assert await case.orchestrator.live(RUN, FAN_OUT) == []

    async def test_reports_count_until_they_are_closed(self, case):
        reader = case.orchestrator
        assert (await reader.usage(RUN, [FAN_OUT])).reported_bytes == 0
        await case.opened(slot(0), slot(1))
        case.ask(slot(0))
        assert (await reader.usage(RUN, [FAN_OUT])).reported_bytes == 0
        case.report(slot(0), partial="x" * 90)
        assert (await reader.usage(RUN, [FAN_OUT])).reported_bytes >= 90
        assert (await reader.usage(RUN, ["another"])).reported_bytes == 0
        await case.close(slot(0))
        assert (await reader.usage(RUN, [FAN_OUT])).reported_bytes == 0

    async def test_which_run_it_knows_under_an_id_is_known_also_when_that_is_forgotten(self, case):
        assert await case.orchestrator.created_at(RUN) == ""
        for created_at in ("monday", "tuesday at 12"):
            await case.orchestrator.open(RUN, EPOCH, Opening(FAN_OUT, Bitmap(1), b"", "hash", created_at))
            assert await case.orchestrator.created_at(RUN) == created_at
        for epoch in (EPOCH, EPOCH + 1):
            await case.orchestrator.forget(RUN, epoch)
            assert await case.orchestrator.created_at(RUN) == "tuesday at 12"
            assert await case.orchestrator.epoch(RUN) == epoch

    async def test_nothing_is_known_of_when_a_run_was_created_that_never_opened(self, case):
        await case.orchestrator.forget(RUN, EPOCH)
        assert await case.orchestrator.created_at(RUN) == ""
        assert await case.orchestrator.epoch(RUN) == EPOCH
