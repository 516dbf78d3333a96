"""What a checkpoint store promises about the record of a run, over every store there is."""

import asyncio
import json
from dataclasses import replace

from orchestrator.checkpoint.row import (
    InnerRows,
    Loss,
    SlotRow,
    Tally,
)
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import EnclosingInstance, FanOutKey, Slot
from orchestrator.report import Outcome
from tests.contract.checkpoint_case import (
    AWKWARD,
    FAILURE,
    FAN_OUT,
    contribution,
    error_row,
    errors_of,
    fan_out_row,
    is_recent,
    owned,
    report,
    reports_of,
    step,
)


class TestStep:
    async def test_a_step_comes_back_as_it_was_saved(self, store):
        ownership = await owned(store)
        lineage = (EnclosingInstance(("outer",), "files", 3),)
        folds = (Fold(FAN_OUT.id, 2, "h" * 32),)
        told = {"attempt_index": 2, "lineage": lineage, "folds": folds, "metadata": {"by": "äcme", "tags": ("a", "b")}}
        saved = step(1, namespace=("sub",), state=json.dumps(AWKWARD), **told)
        await store.save_step(ownership, replace(saved, schema_version="v2"))
        _, kept = await store.steps("run-1")
        assert is_recent(kept.saved_at)
        assert replace(kept, saved_at=None) == replace(saved, invocation_id="run-1", schema_version="v2")

    async def test_a_step_that_is_kept_is_left_as_it_is(self, store):
        ownership = await owned(store)
        await store.open_fan_out(ownership, fan_out_row())
        await store.save_step(ownership, step(1, folds=(Fold(FAN_OUT.id, 3, "a" * 32),)))
        await store.save_step(ownership, step(1, state="{}", folds=(Fold(FAN_OUT.id, 9, "b" * 32),)))
        assert [kept.state for kept in await store.steps("run-1")] == ['{"x":1}', '{"x":2}']
        assert [row.fold for row in await store.fan_outs("run-1")] == [Fold(FAN_OUT.id, 3, "a" * 32)]

    async def test_steps_come_by_position(self, store):
        ownership = await owned(store)
        for position in (2, 11, 1):
            await store.save_step(ownership, step(position))
        assert [kept.position for kept in await store.steps("run-1")] == [0, 1, 2, 11]

    async def test_the_latest_fold_of_a_fan_out_counts(self, store):
        ownership = await owned(store)
        await store.open_fan_out(ownership, fan_out_row())
        await store.save_step(ownership, step(1, folds=(Fold(FAN_OUT.id, 3, "a" * 32),)))
        await store.save_step(ownership, step(2, folds=(Fold(FAN_OUT.id, 3, "b" * 32),)))
        (row,) = await store.fan_outs("run-1")
        assert row.fold == Fold(FAN_OUT.id, 3, "b" * 32)


class TestFanOut:
    async def test_an_entered_fan_out_comes_back_as_it_was_opened(self, store):
        ownership = await owned(store)
        key = FanOutKey(("sub",), "files", (EnclosingInstance((), "outer", 7),), visit=2)
        row = fan_out_row(key, item_keys=("a", AWKWARD, "c"), item_tags=({"who": "a"}, {"who": AWKWARD}, {}))
        opened = await store.open_fan_out(ownership, row)
        assert is_recent(opened.opened_at)
        assert replace(opened, opened_at=None) == row
        assert await store.fan_outs("run-1") == [opened]

    async def test_the_first_entry_is_kept(self, store):
        ownership = await owned(store)
        first = await store.open_fan_out(ownership, fan_out_row(count=3))
        assert await store.open_fan_out(ownership, fan_out_row(count=5)) == first
        assert await store.fan_outs("run-1") == [first]

    async def test_fan_outs_come_in_the_order_of_their_entry(self, store):
        ownership = await owned(store)
        keys = [FanOutKey((), "files", visit=visit) for visit in (5, 2, 7, 0, 3, 1, 6, 4)]
        for key in (*keys, keys[0]):
            await store.open_fan_out(ownership, fan_out_row(key))
        await store.save_step(ownership, step(folds=(Fold(keys[0].id, 3, "h" * 32),)))
        assert [row.key for row in await store.fan_outs("run-1")] == keys

    async def test_an_empty_fan_out_can_be_entered(self, store):
        ownership = await owned(store)
        opened = await store.open_fan_out(ownership, fan_out_row(count=0, item_keys=(), item_tags=()))
        assert (opened.instance_count, opened.item_hashes, opened.item_keys, opened.item_tags) == (0, b"", (), ())
        assert await store.fan_outs("run-1") == [opened]


class TestInner:
    async def test_what_happened_inside_an_instance_is_kept_as_each_by_itself_would_be(self, store):
        ownership = await owned(store)
        key = FanOutKey(("files",), "pages", FAN_OUT.enclosing(0))
        completed = step(1, namespace=("files",), lineage=FAN_OUT.enclosing(0), folds=(Fold(key.id, 2, "a" * 32),))
        inner = InnerRows(
            fan_outs=[fan_out_row(key)],
            steps=[completed],
            slots=[contribution(0, fan_out=key), contribution(2, fan_out=key)],
        )
        for _ in range(2):
            await store.record_inner(ownership, inner)
            (opened,) = await store.fan_outs("run-1")
            assert replace(opened, opened_at=None) == replace(fan_out_row(key), fold=Fold(key.id, 2, "a" * 32))
            _, kept = await store.steps("run-1")
            assert replace(kept, saved_at=None) == replace(completed, invocation_id="run-1")
            recorded = [row.report.slot.index async for row in store.slots("run-1", key.id)]
            assert recorded == [0, 2]

    async def test_nothing_at_all_can_have_happened(self, store):
        await store.record_inner(await owned(store), InnerRows())
        assert await store.fan_outs("run-1") == []


class TestRecord:
    async def test_a_contribution_comes_back_as_it_was_recorded(self, store):
        ownership = await owned(store)
        row = SlotRow(
            report(
                4,
                outcome=Outcome.FAILED,
                partial=json.dumps({"text": AWKWARD}),
                error=FAILURE,
                attempts=3,
                delivery=2,
                code_version="1.0",
                folds=(Fold("inner", 2, "h" * 32),),
            ),
            key=AWKWARD,
        )
        assert await store.record(ownership, [row]) == 1
        (kept,) = [kept async for kept in store.slots("run-1", FAN_OUT.id)]
        assert is_recent(kept.recorded_at)
        assert replace(kept, recorded_at=None) == row
        assert kept.report.hash == row.report.hash

    async def test_the_first_contribution_of_a_slot_wins(self, store):
        ownership = await owned(store)
        assert await store.record(ownership, [contribution(0, partial='"first"')]) == 1
        again = [contribution(0, partial='"second"'), contribution(1), contribution(1, partial='"third"')]
        assert await store.record(ownership, again) == 1
        assert [one.partial for one in await reports_of(store)] == ['"first"', '{"out": 1}']

    async def test_the_same_call_again_is_no_first(self, store):
        ownership = await owned(store)
        rows = [contribution(index) for index in range(5)]
        assert await store.record(ownership, rows) == 5
        before = await store.tally("run-1", FAN_OUT.id)
        assert await store.record(ownership, rows) == 0
        assert await store.tally("run-1", FAN_OUT.id) == before

    async def test_nothing_at_all_can_be_recorded(self, store):
        assert await store.record(await owned(store), []) == 0

    async def test_reports_of_several_fan_outs_are_recorded_together(self, store):
        ownership = await owned(store)
        inner = FanOutKey(("files",), "pages", FAN_OUT.enclosing(0))
        assert await store.record(ownership, [contribution(0), contribution(0, fan_out=inner)]) == 2
        assert (await store.tally("run-1", inner.id)).recorded == 1
        assert (await store.tally("run-1", FAN_OUT.id)).recorded == 1

    async def test_the_first_contribution_sets_the_folds_of_what_ended_inside_it(self, store):
        ownership = await owned(store)
        inner = FanOutKey(("files",), "pages", FAN_OUT.enclosing(0))
        await store.open_fan_out(ownership, fan_out_row(inner))
        await store.record(ownership, [contribution(0, folds=(Fold(inner.id, 2, "a" * 32),)), contribution(1)])
        await store.record(ownership, [contribution(0, folds=(Fold(inner.id, 9, "b" * 32),))])
        assert [row.fold for row in await store.fan_outs("run-1")] == [Fold(inner.id, 2, "a" * 32)]

    async def test_the_latest_generation_of_a_slot_counts(self, store):
        ownership = await owned(store)
        await store.record(ownership, [contribution(index, partial='"old"') for index in range(3)])
        await store.record(ownership, [contribution(1, generation=1, partial='"new"')])
        await store.record(ownership, [contribution(2, generation=2, partial='"newest"')])
        await store.record(ownership, [contribution(2, generation=1, partial='"late"')])
        assert [one.partial for one in await reports_of(store)] == ['"old"', '"new"', '"newest"']

    async def test_contributions_come_in_index_order_from_any_part(self, store):
        ownership = await owned(store)
        for index in (300, 2, 700, 1, 299, 10):
            await store.record(ownership, [contribution(index)])

        async def indexes(**span: int) -> list[int]:
            return [one.slot.index for one in await reports_of(store, **span)]

        assert await indexes() == [1, 2, 10, 299, 300, 700]
        assert await indexes(start=2, stop=300) == [2, 10, 299]
        assert await indexes(start=3) == [10, 299, 300, 700]
        assert await indexes(stop=2) == [1]
        assert await indexes(start=701) == await indexes(start=5, stop=5) == []

    async def test_many_contributions_with_generations_come_once_each(self, store):
        ownership = await owned(store)
        await store.record(ownership, [contribution(index) for index in range(700)])
        again = [contribution(index, generation=1, partial='"new"') for index in range(0, 700, 5)]
        await store.record(ownership, again)
        kept = await reports_of(store)
        assert [one.slot.index for one in kept] == list(range(700))
        assert [one.slot.generation for one in kept] == [int(index % 5 == 0) for index in range(700)]


class TestErrorRow:
    async def test_an_error_row_is_no_contribution(self, store):
        ownership = await owned(store)
        assert await store.record(ownership, [error_row(1), contribution(0)]) == 1
        assert [one.slot.index for one in await reports_of(store)] == [0]
        (kept,) = [row async for row in store.errors("run-1", FAN_OUT.id)]
        assert replace(kept, recorded_at=None) == error_row(1)
        assert is_recent(kept.recorded_at)
        assert (await store.tally("run-1", FAN_OUT.id)).recorded == 1

    async def test_the_latest_error_row_of_a_slot_is_kept(self, store):
        ownership = await owned(store)
        await store.record(ownership, [error_row(0, worker="first"), error_row(0, worker="second")])
        await store.record(ownership, [error_row(0, worker="third")])
        assert [one.worker for one in await errors_of(store)] == ["third"]

    async def test_a_contribution_supersedes_the_error_row_of_its_slot(self, store):
        ownership = await owned(store)
        await store.record(ownership, [error_row(0), error_row(1), error_row(2)])
        await store.record(ownership, [contribution(1), contribution(2, generation=1)])
        assert [one.slot.index for one in await errors_of(store)] == [0]

    async def test_an_error_row_of_a_later_generation_is_not_superseded(self, store):
        ownership = await owned(store)
        await store.record(ownership, [contribution(0), contribution(1, generation=1)])
        await store.record(ownership, [error_row(0, generation=1), error_row(1)])
        assert [one.slot for one in await errors_of(store)] == [Slot(FAN_OUT.id, 0, 1)]

    async def test_error_rows_come_in_index_order_the_latest_generation_of_each(self, store):
        ownership = await owned(store)
        rows = [error_row(index) for index in range(600, -1, -1)]
        await store.record(ownership, [*rows, error_row(255, generation=1), error_row(256, generation=2)])
        await store.record(ownership, [contribution(index) for index in range(100)])
        kept = await errors_of(store)
        assert [one.slot.index for one in kept] == list(range(100, 601))
        assert {one.slot.index: one.slot.generation for one in kept if one.slot.generation} == {255: 1, 256: 2}


class TestTally:
    async def test_a_tally_counts_the_contributions_by_outcome(self, store):
        ownership = await owned(store)
        outcomes = [Outcome.SUCCEEDED] * 3 + [Outcome.FAILED] * 2 + [Outcome.LOST, Outcome.CANCELLED]
        rows = [contribution(index, outcome=outcome, delivery=index) for index, outcome in enumerate(outcomes)]
        await store.record(ownership, [*rows, error_row(50)])
        await store.record_losses(ownership, [Loss(Slot(FAN_OUT.id, 5), "w", delivery, False) for delivery in (1, 2)])
        tally = await store.tally("run-1", FAN_OUT.id)
        assert (tally.succeeded, tally.failed, tally.lost, tally.cancelled) == (3, 2, 1, 1)
        assert (tally.recorded, tally.deliveries, tally.losses) == (7, 21, 2)
        assert is_recent(tally.first_at)
        assert is_recent(tally.last_at)

    async def test_a_tally_counts_a_slot_once_whatever_its_generations(self, store):
        ownership = await owned(store)
        rows = [contribution(index, outcome=Outcome.FAILED, delivery=3) for index in range(2)]
        await store.record(ownership, rows)
        await store.record(ownership, [contribution(0, generation=2, delivery=1)])
        await store.record(ownership, [contribution(0, generation=1, outcome=Outcome.LOST, delivery=7)])
        await store.record(ownership, [contribution(1, generation=1, outcome=Outcome.FAILED, delivery=2)])
        tally = await store.tally("run-1", FAN_OUT.id)
        assert (tally.succeeded, tally.failed, tally.lost, tally.deliveries) == (1, 1, 0, 3)

    async def test_a_fan_out_without_contributions_has_an_empty_tally(self, store):
        await owned(store)
        assert await store.tally("run-1", FAN_OUT.id) == Tally(fan_out=FAN_OUT.id)

    async def test_a_tally_says_when_the_first_and_the_last_were_recorded(self, store):
        ownership = await owned(store)
        await store.record(ownership, [contribution(0)])
        first = await store.tally("run-1", FAN_OUT.id)
        assert first.first_at == first.last_at is not None
        async with asyncio.timeout(10):
            last = first
            while last.last_at == first.last_at:
                await store.record(ownership, [contribution(last.recorded)])
                last = await store.tally("run-1", FAN_OUT.id)
        assert last.first_at == first.first_at
        assert last.last_at > first.first_at


class TestLoss:
    async def test_a_lost_delivery_is_counted_once(self, store):
        ownership = await owned(store)
        slot, other = Slot(FAN_OUT.id, 0), Slot(FAN_OUT.id, 1)
        assert await store.record_losses(ownership, [Loss(slot, "w1", 1, True), Loss(other, "w1", 1, False)]) == {
            slot: 1,
            other: 0,
        }
        assert await store.record_losses(ownership, [Loss(slot, "w1", 1, True)]) == {slot: 1}
        assert await store.record_losses(ownership, [Loss(slot, "w2", 2, True), Loss(slot, "w3", 3, False)]) == {
            slot: 2
        }
        assert (await store.tally("run-1", FAN_OUT.id)).losses == 4

    async def test_another_generation_is_charged_anew(self, store):
        ownership = await owned(store)
        await store.record_losses(ownership, [Loss(Slot(FAN_OUT.id, 0), "w", 1, True)])
        later = Slot(FAN_OUT.id, 0, 1)
        assert await store.record_losses(ownership, [Loss(later, "w", 1, True)]) == {later: 1}

    async def test_losses_come_in_index_order(self, store):
        ownership = await owned(store)
        losses = [Loss(Slot(FAN_OUT.id, index), f"w:{index}", 12 - index, bool(index % 2)) for index in (11, 2, 0)]
        await store.record_losses(ownership, losses)
        assert await store.losses("run-1", FAN_OUT.id) == losses[::-1]

    async def test_no_loss_at_all_is_fine(self, store):
        assert await store.record_losses(await owned(store), []) == {}
