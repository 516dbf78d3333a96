"""What a checkpoint store promises about runs and their owners, over every store there is."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.checkpoint.protocol import RunIsOver
from orchestrator.checkpoint.row import (
    Loss,
    Ownership,
    RunFilter,
    RunStatus,
    Seen,
    Tally,
)
from orchestrator.errors import (
    CheckpointNotFound,
    Fenced,
    RunAmbiguous,
    RunIsDriven,
)
from orchestrator.identity import Slot
from tests.contract.checkpoint_case import (
    DEAD,
    ENDED,
    FAILURE,
    FAN_OUT,
    LONG,
    contribution,
    error_row,
    errors_of,
    everything_inside,
    fan_out_row,
    fill,
    is_recent,
    new_run,
    owned,
    reports_of,
    step,
)


class TestAcquire:
    async def test_the_owner_of_a_submitted_run_has_the_first_epoch(self, store):
        ownership = await owned(store)
        assert ownership == Ownership("run-1", "run-1", 1)
        run = await store.find("run-1")
        assert (run.status, run.owner, run.epoch) == (RunStatus.RUNNING, "owner-1", 1)
        assert run.lease_until is not None
        assert timedelta(minutes=4) < run.lease_until - datetime.now(UTC) < timedelta(minutes=6)

    async def test_an_unknown_run_cannot_be_acquired(self, store):
        with pytest.raises(CheckpointNotFound):
            await store.acquire("nothing", "owner-1", invocation_id="nothing", lease=LONG)

    async def test_a_live_lease_of_another_keeps_everyone_out(self, store):
        await owned(store)
        with pytest.raises(RunIsDriven) as refused:
            await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG)
        assert refused.value.owner == "owner-1"
        run = await store.find("run-1")
        assert (run.epoch, run.invocation_id) == (1, "run-1")

    async def test_an_ended_lease_lets_the_next_owner_in_under_a_higher_epoch(self, store):
        await owned(store, lease=ENDED)
        ownership = await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG)
        assert ownership == Ownership("run-1", "inv-2", 2)
        run = await store.find("run-1")
        assert (run.owner, run.invocation_id, run.status) == ("owner-2", "inv-2", RunStatus.RUNNING)

    async def test_a_short_lease_ends_by_itself(self, store):
        await owned(store, lease=timedelta(milliseconds=150))
        async with asyncio.timeout(10):
            status = RunStatus.RUNNING
            while status is not RunStatus.ORPHANED:
                status = (await store.find("run-1")).status
        assert (await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG)).epoch == 2

    async def test_the_lease_of_an_owner_known_to_be_dead_is_not_waited_for(self, store):
        await owned(store)
        taken = await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG, seen=DEAD)
        assert taken.epoch == 2

    async def test_only_the_dead_owner_who_was_seen_is_replaced(self, store):
        await owned(store)
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG, seen=DEAD)
        with pytest.raises(RunIsDriven):
            await store.acquire("run-1", "owner-3", invocation_id="inv-3", lease=LONG, seen=DEAD)

    async def test_the_same_call_again_answers_its_owner(self, store):
        first = await owned(store)
        again = await store.acquire("run-1", "owner-1", invocation_id="run-1", lease=LONG)
        assert again.epoch > first.epoch

    async def test_another_invocation_of_the_same_owner_waits_for_its_lease(self, store):
        await owned(store)
        with pytest.raises(RunIsDriven):
            await store.acquire("run-1", "owner-1", invocation_id="inv-2", lease=LONG)

    async def test_of_many_at_once_one_becomes_the_owner(self, place):
        stores = [place.open() for _ in range(3)]
        await stores[0].create(new_run())
        calls = [
            stores[number % 3].acquire("run-1", f"owner-{number}", invocation_id=f"inv-{number}", lease=LONG)
            for number in range(12)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        (won,) = [answer for answer in answers if isinstance(answer, Ownership)]
        assert won.epoch == 1
        assert sum(isinstance(answer, RunIsDriven) for answer in answers) == 11
        assert (await stores[1].find("run-1")).invocation_id == won.invocation_id

    async def test_no_epoch_is_minted_twice(self, place):
        stores = [place.open() for _ in range(3)]
        await stores[0].create(new_run())
        calls = [
            stores[number % 3].acquire("run-1", f"owner-{number}", invocation_id=f"inv-{number}", lease=ENDED)
            for number in range(12)
        ]
        answers = await asyncio.gather(*calls)
        assert sorted(answer.epoch for answer in answers) == list(range(1, 13))

    @pytest.mark.parametrize("ended", [RunStatus.FAILED, RunStatus.SUBMITTED])
    async def test_a_run_is_not_taken_where_another_has_owned_it_since_it_was_seen(self, store, ended):
        ownership = await owned(store, lease=ENDED)
        seen = Seen((await store.find("run-1")).epoch)
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG, seen=seen)
        with pytest.raises(RunIsDriven):
            await store.acquire("run-1", "owner-3", invocation_id="inv-3", lease=LONG, seen=seen)
        await store.finish(replace(ownership, invocation_id="inv-2", epoch=2), ended, error=FAILURE)
        with pytest.raises(RunIsDriven):
            await store.acquire("run-1", "owner-3", invocation_id="inv-3", lease=LONG, seen=seen)
        assert (await store.find("run-1")).status is ended

    async def test_its_own_call_again_is_answered_although_the_epoch_has_risen(self, store):
        await store.create(new_run())
        for epoch in (1, 2):
            again = await store.acquire("run-1", "owner-1", invocation_id="run-1", lease=LONG, seen=Seen(0))
            assert again.epoch == epoch

    async def test_a_failed_run_can_be_taken_up_again(self, store):
        ownership = await owned(store)
        await store.request_cancel("run-1")
        await store.finish(ownership, RunStatus.FAILED, error=FAILURE)
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG)
        run = await store.find("run-1")
        assert (run.status, run.error, run.ended_at) == (RunStatus.RUNNING, None, None)
        assert not run.is_cancel_requested

    @pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED])
    async def test_a_run_that_is_over_is_nobodys_any_more(self, store, status):
        ownership = await owned(store)
        await store.finish(ownership, status)
        before = await store.find("run-1")
        for owner in ("owner-1", "owner-2"):
            with pytest.raises(RunIsOver, match=status):
                await store.acquire("run-1", owner, invocation_id="run-1", lease=LONG, seen=DEAD)
        assert await store.find("run-1") == before

    async def test_taking_a_run_up_may_move_it_to_another_version_of_its_graph(self, store):
        await store.create(new_run())
        before = (await store.find("run-1")).fingerprint
        await store.acquire("run-1", "owner-1", invocation_id="inv-1", lease=ENDED)
        assert (await store.find("run-1")).fingerprint == before
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=ENDED, fingerprint="another")
        assert (await store.find("run-1")).fingerprint == "another"

    async def test_a_takeover_still_sees_that_the_run_is_to_be_cancelled(self, store):
        await owned(store)
        await store.request_cancel("run-1")
        taken = await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG, seen=DEAD)
        assert (await store.renew(taken, lease=LONG)).is_cancel_requested


class TestRenew:
    async def test_a_renewal_extends_the_lease_and_keeps_the_health(self, store):
        ownership = await owned(store, lease=ENDED)
        assert (await store.find("run-1")).status is RunStatus.ORPHANED
        renewal = await store.renew(ownership, lease=LONG, health="Redis is down")
        run = await store.find("run-1")
        assert (run.status, run.health) == (RunStatus.RUNNING, "Redis is down")
        assert not renewal.is_cancel_requested

    async def test_health_is_cleared_by_a_renewal_without_any(self, store):
        ownership = await owned(store)
        await store.renew(ownership, lease=LONG, health="Redis is down")
        await store.renew(ownership, lease=LONG)
        assert (await store.find("run-1")).health is None

    async def test_a_renewal_after_the_run_was_given_up_changes_nothing(self, store):
        ownership = await owned(store)
        await store.finish(ownership, RunStatus.SUBMITTED)
        before = await store.find("run-1")
        await store.renew(ownership, lease=LONG)
        assert await store.find("run-1") == before


class TestFinish:
    @pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED])
    async def test_an_ended_run_says_when_and_why(self, store, status):
        ownership = await owned(store)
        await store.finish(ownership, status, error=FAILURE)
        run = await store.find("run-1")
        assert (run.status, run.error, run.owner) == (status, FAILURE, "owner-1")
        assert is_recent(run.ended_at)
        assert is_recent(run.lease_until)

    async def test_a_run_that_is_given_back_is_free_at_once(self, store):
        ownership = await owned(store)
        await store.finish(ownership, RunStatus.SUBMITTED)
        run = await store.find("run-1")
        assert (run.status, run.ended_at) == (RunStatus.SUBMITTED, None)
        assert (await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG)).epoch == 2

    async def test_the_outcome_is_written_once(self, store):
        ownership = await owned(store)
        await store.finish(ownership, RunStatus.SUCCEEDED)
        await store.finish(ownership, RunStatus.FAILED, error=FAILURE)
        run = await store.find("run-1")
        assert (run.status, run.error) == (RunStatus.SUCCEEDED, None)


WRITES = {
    "renew": lambda store, own: store.renew(own, lease=LONG),
    "finish": lambda store, own: store.finish(own, RunStatus.SUCCEEDED),
    "save_step": lambda store, own: store.save_step(own, step()),
    "open_fan_out": lambda store, own: store.open_fan_out(own, fan_out_row()),
    "record": lambda store, own: store.record(own, [contribution(), error_row(1)]),
    "record_inner": lambda store, own: store.record_inner(own, everything_inside()),
    "record_losses": lambda store, own: store.record_losses(own, [Loss(Slot(FAN_OUT.id, 0), "w", 1, True)]),
}


class TestFence:
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_a_write_of_an_earlier_owner_is_refused_and_leaves_nothing(self, store, write):
        zombie = await owned(store)
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG, seen=DEAD)
        before = await store.find("run-1")
        with pytest.raises(Fenced):
            await write(store, zombie)
        assert await store.find("run-1") == before
        assert len(await store.steps("run-1")) == 1
        assert await store.fan_outs("run-1") == []
        assert await reports_of(store) == await errors_of(store) == await store.losses("run-1", FAN_OUT.id) == []

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_a_write_to_a_deleted_run_is_refused(self, store, write):
        ownership = await owned(store)
        await store.delete("run-1")
        with pytest.raises(Fenced):
            await write(store, ownership)
        assert await store.steps("run-1") == []

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_an_owner_whose_run_was_cancelled_after_its_lease_is_refused(self, store, write):
        ownership = await owned(store, lease=ENDED)
        await store.request_cancel("run-1")
        with pytest.raises(Fenced):
            await write(store, ownership)
        assert (await store.find("run-1")).status is RunStatus.CANCELLED


class TestFind:
    async def test_a_run_is_found_by_every_one_of_its_invocations(self, store):
        await owned(store, lease=ENDED)
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=ENDED)
        await store.acquire("run-1", "owner-3", invocation_id="inv-3", lease=LONG)
        for name in ("run-1", "inv-2", "inv-3"):
            assert (await store.find(name)).run_id == "run-1"

    async def test_a_unique_prefix_is_enough(self, store):
        for name in ("abc-1", "abd-2", "b-3"):
            await store.create(new_run(name))
        assert (await store.find("abc")).run_id == "abc-1"
        assert (await store.find("b")).run_id == "b-3"

    async def test_a_prefix_of_several_runs_names_them(self, store):
        for name in ("abc-1", "abd-2", "b-3"):
            await store.create(new_run(name))
        with pytest.raises(RunAmbiguous) as refused:
            await store.find("ab")
        assert refused.value.matches == ("abc-1", "abd-2")

    async def test_a_whole_id_is_found_though_it_begins_another(self, store):
        await store.create(new_run("ab"))
        await store.create(new_run("abc"))
        assert (await store.find("ab")).run_id == "ab"

    @pytest.mark.parametrize("name", ["", "RUN", "run_1", "run%", "run-1x", "x" * 200, "\0", "\ud800", "'; DROP TABLE"])
    async def test_whatever_is_asked_for_is_no_pattern(self, store, name):
        await store.create(new_run())
        with pytest.raises(CheckpointNotFound):
            await store.find(name)

    async def test_the_prefix_of_an_invocation_is_not_one_of_a_run(self, store):
        await store.create(new_run())
        await store.acquire("run-1", "owner-1", invocation_id="inv-1", lease=LONG)
        with pytest.raises(CheckpointNotFound):
            await store.find("inv")


class TestCancel:
    async def test_a_live_owner_is_asked_to_cancel(self, store):
        ownership = await owned(store)
        asked = await store.request_cancel("run-1")
        assert (asked.status, asked.is_cancel_requested) == (RunStatus.RUNNING, True)
        assert (await store.renew(ownership, lease=LONG)).is_cancel_requested

    @pytest.mark.parametrize("status", [RunStatus.SUBMITTED, RunStatus.FAILED])
    async def test_a_run_without_an_owner_is_cancelled_at_once(self, store, status):
        await store.finish(await owned(store), status)
        run = await store.request_cancel("run-1")
        assert (run.status, run.is_cancel_requested) == (RunStatus.CANCELLED, True)
        assert is_recent(run.ended_at)

    async def test_a_run_that_no_owner_ever_had_is_cancelled_at_once(self, store):
        await store.create(new_run())
        assert (await store.request_cancel("run-1")).status is RunStatus.CANCELLED

    async def test_an_orphaned_run_is_cancelled_at_once(self, store):
        await owned(store, lease=ENDED)
        assert (await store.request_cancel("run-1")).status is RunStatus.CANCELLED

    async def test_a_run_that_succeeded_is_left_alone(self, store):
        await store.finish(await owned(store), RunStatus.SUCCEEDED)
        before = await store.find("run-1")
        assert await store.request_cancel("run-1") == before

    async def test_an_unknown_run_cannot_be_cancelled(self, store):
        with pytest.raises(CheckpointNotFound):
            await store.request_cancel("nothing")


class TestDelete:
    async def test_a_deleted_run_leaves_nothing(self, store):
        await fill(store)
        await store.delete("run-1")
        with pytest.raises(CheckpointNotFound):
            await store.find("run-1")
        assert await store.list_runs(RunFilter()) == []
        assert await store.load("run-1") is None
        assert await store.steps("run-1") == await store.fan_outs("run-1") == []
        assert await reports_of(store) == await errors_of(store) == await store.losses("run-1", FAN_OUT.id) == []
        assert await store.tally("run-1", FAN_OUT.id) == Tally(fan_out=FAN_OUT.id)

    async def test_a_run_of_the_same_id_starts_anew_after_it(self, store):
        await store.record(await owned(store), [contribution(0)])
        await store.delete("run-1")
        ownership = await owned(store)
        assert ownership.epoch == 1
        assert await store.record(ownership, [contribution(0)]) == 1

    async def test_other_runs_stay(self, store):
        await store.record(await owned(store), [contribution(0)])
        await owned(store, "run-2")
        await store.delete("run-2")
        await store.delete("nothing")
        assert len(await reports_of(store)) == 1
