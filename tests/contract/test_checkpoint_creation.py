"""How a run comes to be kept, also where a reply was lost on the way."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.checkpoint.row import Run, RunFilter, RunStatus
from orchestrator.errors import RunExists
from tests.contract.checkpoint_case import is_recent, new_run, owned


class TestCreate:
    async def test_a_created_run_is_kept_with_its_first_state(self, store):
        made = await store.create(new_run())
        assert made == await store.find("run-1")
        assert made == Run(
            run_id="run-1",
            graph="app:graph",
            fingerprint="f1",
            correlation_id="c1",
            status=RunStatus.SUBMITTED,
            epoch=0,
            invocation_id="run-1",
            created_at=made.created_at,
            schema_version="v1",
            code_version="1.0",
        )
        assert is_recent(made.created_at)
        (first,) = await store.steps("run-1")
        assert (first.position, first.node, first.state, first.schema_version) == (0, "", '{"x":1}', "v1")
        assert is_recent(first.saved_at)

    async def test_a_runs_metadata_is_read_back_as_it_was_given_whoever_owns_it(self, store):
        metadata = {"tenant": "äcme", "tags": ("a", "b"), "count": 3, "share": 0.5, "is_new": True}
        made = await store.create(new_run(metadata=metadata))
        assert made.metadata == metadata
        await store.acquire("run-1", "other", invocation_id="inv-2", lease=timedelta(seconds=30))
        (listed,) = await store.list_runs(RunFilter())
        assert listed.metadata == (await store.find("run-1")).metadata == metadata

    async def test_a_second_run_of_the_same_id_is_refused_and_changes_nothing(self, store):
        made = await store.create(new_run())
        with pytest.raises(RunExists):
            await store.create(new_run(graph="other", state="{}"))
        assert await store.find("run-1") == made
        assert [kept.state for kept in await store.steps("run-1")] == ['{"x":1}']

    async def test_the_same_creation_again_is_answered_as_the_first_was(self, store):
        made = await store.create(new_run())
        assert await store.create(new_run()) == made
        assert len(await store.steps("run-1")) == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"graph": "other"},
            {"fingerprint": "f2"},
            {"correlation_id": "c2"},
            {"state": '{"x":2}'},
            {"schema_version": "v2"},
            {"code_version": None},
            {"metadata": {"tenant": "u"}},
        ],
        ids=lambda other: next(iter(other)),
    )
    async def test_a_creation_that_differs_in_anything_is_refused(self, store, other):
        await store.create(new_run())
        with pytest.raises(RunExists):
            await store.create(replace(new_run(), **other))

    async def test_a_run_that_somebody_has_taken_up_is_not_created_again(self, store):
        ownership = await owned(store)
        for status in (RunStatus.RUNNING, RunStatus.SUBMITTED, RunStatus.CANCELLED):
            await store.finish(ownership, status)
            with pytest.raises(RunExists):
                await store.create(new_run())

    async def test_a_run_that_was_cancelled_before_it_began_is_not_created_again(self, store):
        await store.create(new_run())
        await store.request_cancel("run-1")
        with pytest.raises(RunExists):
            await store.create(new_run())

    async def test_of_many_equal_creations_at_once_one_makes_the_run_and_all_are_given_it(self, place):
        stores = [place.open() for _ in range(3)]
        made = await asyncio.gather(*(one.create(new_run()) for one in stores for _ in range(3)))
        assert {run.run_id for run in made} == {"run-1"}
        assert len({run.created_at for run in made}) == 1

    async def test_of_many_different_creations_at_once_one_wins(self, place):
        stores = [place.open() for _ in range(3)]
        runs = [new_run(correlation_id=str(number)) for number in range(9)]
        made = await asyncio.gather(
            *(stores[number % 3].create(run) for number, run in enumerate(runs)), return_exceptions=True
        )
        assert sum(isinstance(one, Run) for one in made) == 1
        assert sum(isinstance(one, RunExists) for one in made) == 8
