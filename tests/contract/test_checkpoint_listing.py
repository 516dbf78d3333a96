"""In which order a checkpoint store lists its runs, page by page, over every store there is."""

from datetime import UTC, datetime

import pytest

from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.record import CheckpointRecord, NodePosition
from orchestrator.checkpoint.row import Mark, Run, RunFilter, RunOrder, RunStatus
from tests.contract.checkpoint_case import ENDED, new_run, owned

OPEN = frozenset((RunStatus.SUBMITTED, RunStatus.RUNNING, RunStatus.ORPHANED))
OVER = frozenset((RunStatus.SUCCEEDED, RunStatus.CANCELLED))


def ids(runs: list[Run]) -> list[str]:
    return [run.run_id for run in runs]


async def pages(store: CheckpointStore, *, order: RunOrder, limit: int, **more) -> list[list[Run]]:
    """A whole list, page by page, up to the first that is not full."""
    made: list[list[Run]] = []
    after: Mark | None = None
    while not made or len(made[-1]) == limit:
        which = RunFilter(order=order, limit=limit, after=after, **more)
        made.append(await store.list_runs(which))
        assert len(made) < 100, "the list has no end"
        after = which.mark_of(made[-1][-1]) if made[-1] else None
    return made


async def oldest(store: CheckpointStore) -> list[str]:
    return ids(await store.list_runs(RunFilter(statuses=OPEN, order=RunOrder.OLDEST)))


async def ended(store: CheckpointStore, statuses: frozenset[RunStatus] = OVER) -> list[Run]:
    return await store.list_runs(RunFilter(statuses=statuses, order=RunOrder.ENDED))


async def test_runs_are_listed_newest_first_up_to_the_limit(store: CheckpointStore) -> None:
    for number in range(5):
        await store.create(new_run(f"run-{number}"))
    listed = await store.list_runs(RunFilter(limit=3))
    assert [run.run_id for run in listed] == ["run-4", "run-3", "run-2"]


async def test_runs_are_listed_by_status_as_it_is_seen(store: CheckpointStore) -> None:
    await store.create(new_run("submitted"))
    await owned(store, "running")
    await owned(store, "orphaned", lease=ENDED)
    await store.finish(await owned(store, "failed"), RunStatus.FAILED)
    for status in ("submitted", "running", "orphaned", "failed"):
        listed = await store.list_runs(RunFilter(statuses=frozenset([RunStatus(status)])))
        assert [run.run_id for run in listed] == [status]
        assert listed[0].status == status
    both = await store.list_runs(RunFilter(statuses=frozenset([RunStatus.SUBMITTED, RunStatus.ORPHANED])))
    assert [run.run_id for run in both] == ["orphaned", "submitted"]


async def test_runs_are_listed_by_graph(store: CheckpointStore) -> None:
    await store.create(new_run("run-1", graph="a"))
    await store.create(new_run("run-2", graph="b"))
    assert [run.run_id for run in await store.list_runs(RunFilter(graphs=frozenset(["a"])))] == ["run-1"]


async def test_a_filter_reaches_beyond_many_runs_that_do_not_fit(store: CheckpointStore) -> None:
    await store.create(new_run("wanted", graph="rare"))
    for number in range(120):
        await store.create(new_run(f"run-{number}"))
    assert [run.run_id for run in await store.list_runs(RunFilter(graphs=frozenset(["rare"])))] == ["wanted"]


@pytest.mark.parametrize("statuses", [frozenset(), OPEN], ids=["any", "open"])
async def test_pages_of_the_oldest_runs_hold_every_run_once(store: CheckpointStore, statuses) -> None:
    for number in range(8):
        await store.create(new_run(f"run-{number}"))
    made = await pages(store, order=RunOrder.OLDEST, limit=3, statuses=statuses)
    assert [ids(page) for page in made] == [
        ["run-0", "run-1", "run-2"],
        ["run-3", "run-4", "run-5"],
        ["run-6", "run-7"],
    ]


async def test_pages_are_as_long_as_they_may_be_whatever_lies_between(store: CheckpointStore) -> None:
    for number in range(130):
        await store.create(new_run(f"run-{number:03}", graph="rare" if number % 60 == 0 else "common"))
    made = await pages(store, order=RunOrder.OLDEST, limit=2, statuses=OPEN, graphs=frozenset(["rare"]))
    assert [ids(page) for page in made] == [["run-000", "run-060"], ["run-120"]]


async def test_runs_that_were_created_at_one_moment_are_each_on_one_page(store: CheckpointStore) -> None:
    names = ["a", "B", "c-1", "c1", "C1", "_", "a" * 150, *(f"n{number}" for number in range(230))]
    for name in names:
        await store.seed(
            CheckpointRecord(
                run_id=name,
                invocation_id=name,
                correlation_id=name,
                state={},
                completed_positions=(NodePosition(namespace=(), node_name="a", step=0),),
                last_saved_at=1_700_000_000.0,
            )
        )
    for limit in (3, 110, 500):
        made = await pages(store, order=RunOrder.OLDEST, limit=limit, statuses=OPEN)
        assert sorted(run_id for page in made for run_id in ids(page)) == sorted(names)


@pytest.mark.parametrize("gone", ["deleted", "cancelled"])
async def test_a_list_goes_on_behind_a_run_that_has_gone_from_it(store: CheckpointStore, gone: str) -> None:
    for number in range(4):
        await store.create(new_run(f"run-{number}"))
    first = RunFilter(statuses=OPEN, order=RunOrder.OLDEST, limit=2)
    page = await store.list_runs(first)
    await (store.delete("run-1") if gone == "deleted" else store.request_cancel("run-1"))
    more = RunFilter(statuses=OPEN, order=RunOrder.OLDEST, limit=2, after=first.mark_of(page[-1]))
    assert ids(await store.list_runs(more)) == ["run-2", "run-3"]


async def test_a_run_is_among_the_open_ones_until_it_ends_and_again_when_it_is_resumed(store: CheckpointStore) -> None:
    await store.create(new_run("first"))
    assert await oldest(store) == ["first"]
    ownership = await owned(store, "second", lease=ENDED)
    assert await oldest(store) == ["first", "second"]
    await store.finish(ownership, RunStatus.SUBMITTED)
    assert await oldest(store) == ["first", "second"]
    ownership = await store.acquire("first", "owner-1", invocation_id="first", lease=ENDED)
    await store.finish(ownership, RunStatus.FAILED)
    assert await oldest(store) == ["second"]
    await store.acquire("first", "owner-2", invocation_id="inv-2", lease=ENDED)
    assert await oldest(store) == ["first", "second"]
    await store.request_cancel("first")
    await store.delete("second")
    assert await oldest(store) == []


async def test_each_status_of_open_runs_can_be_asked_for_by_age(store: CheckpointStore) -> None:
    for kind in ("b", "a"):
        await store.create(new_run(f"{kind}-submitted"))
        await owned(store, f"{kind}-running")
        await owned(store, f"{kind}-orphaned", lease=ENDED)
    for status in OPEN:
        listed = await store.list_runs(RunFilter(statuses=frozenset([status]), order=RunOrder.OLDEST))
        assert ids(listed) == [f"b-{status}", f"a-{status}"]
        assert {run.status for run in listed} == {status}


async def test_runs_that_have_ended_are_listed_by_their_end_each_on_one_page(store: CheckpointStore) -> None:
    owners = [await owned(store, f"run-{number}") for number in range(5)]
    for number in (3, 0, 4, 1):
        await store.finish(owners[number], RunStatus.FAILED if number == 0 else RunStatus.SUCCEEDED)
    await store.create(new_run("cancelled"))
    await store.request_cancel("cancelled")
    made = await pages(store, order=RunOrder.ENDED, limit=2)
    marks = [RunFilter(order=RunOrder.ENDED).mark_of(run) for page in made for run in page]
    # SQLite's clock counts milliseconds, so two of them may have ended at one time.
    assert marks == sorted(marks)
    assert {mark.run_id for mark in marks} == {"run-3", "run-0", "run-4", "run-1", "cancelled"}
    assert set(ids(await ended(store))) == {"run-3", "run-4", "run-1", "cancelled"}


async def test_a_run_that_was_created_first_and_ended_last_is_behind_those_that_ended_before(
    store: CheckpointStore,
) -> None:
    early, late = await owned(store, "early"), await owned(store, "late")
    await store.finish(late, RunStatus.SUCCEEDED)
    (before,) = await ended(store)
    assert before.ended_at is not None
    while (await store.create(new_run(f"at-{before.ended_at}"))).created_at <= before.ended_at:
        await store.delete(f"at-{before.ended_at}")
    await store.finish(early, RunStatus.SUCCEEDED)
    assert ids(await ended(store)) == ["late", "early"]
    mark = RunFilter(order=RunOrder.ENDED).mark_of(before)
    assert ids(await store.list_runs(RunFilter(order=RunOrder.ENDED, after=mark))) == ["early"]


async def test_the_ended_ones_can_be_listed_from_a_time_on(store: CheckpointStore) -> None:
    await store.finish(await owned(store), RunStatus.SUCCEEDED)
    (run,) = await ended(store)
    assert run.ended_at is not None
    assert ids(await store.list_runs(RunFilter(order=RunOrder.ENDED, after=Mark(run.ended_at)))) == ["run-1"]
    later = Mark(run.ended_at, "run-1")
    assert await store.list_runs(RunFilter(order=RunOrder.ENDED, after=later)) == []


@pytest.mark.parametrize("goes", ["resumed", "deleted"])
async def test_a_run_that_has_ended_no_more_is_not_among_the_ended_ones(store: CheckpointStore, goes: str) -> None:
    await store.finish(await owned(store), RunStatus.FAILED)
    assert ids(await ended(store, frozenset())) == ["run-1"]
    if goes == "resumed":
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=ENDED)
    else:
        await store.delete("run-1")
    assert await ended(store, frozenset()) == []


def test_a_list_of_the_newest_is_not_gone_on_with() -> None:
    with pytest.raises(ValueError, match="newest"):
        RunFilter(after=Mark(datetime.now(UTC)))
