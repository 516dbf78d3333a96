"""What workers run is told of a cancellation or a failure; nothing begins after it, and what is recorded stays."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import GraphError, RunCancelled
from tests.graph.cancellable import ACTS
from tests.service.cancelling import GRAPHS, MARGIN_SECONDS, Driven, Scene, at_work, driven, places_of, until
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, WorkerProcess

if TYPE_CHECKING:
    from workers.launch import Pool

SLOTS = {"prefork": 3, "threads": 3, "solo": 1}
COUNT = 24
"""Of the instances of a run that is cancelled at random."""
TOLD_WITHIN_SECONDS = HEARTBEAT_SECONDS + MARGIN_SECONDS

each_graph = pytest.mark.parametrize("graph", ["flat", "inline", "dispatched"])


@pytest.fixture(scope="module")
def redis_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=list(SLOTS))
def pool(request: pytest.FixtureRequest) -> "Pool":
    chosen: Pool = request.param
    return chosen


@pytest.fixture(scope="module")
def worker(pool: "Pool", tmp_path_factory: pytest.TempPathFactory, redis_here: RedisServer) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp(pool)
    process = WorkerProcess(folder, redis_url=redis_here.url, graphs=GRAPHS, pool=pool, concurrency=SLOTS[pool])
    with at_work(process) as started:
        yield started


@pytest.fixture
def scene(tmp_path: Path, redis_here: RedisServer, worker: WorkerProcess) -> Scene:
    return Scene(tmp_path, redis_here, because=worker.log.read_text)


def that_wait(graph: str, slots: int) -> list[Any]:
    """What takes every place of the worker with instances that wait, after some that end and before others."""
    busy = ("wait", "loop", "wait")[:slots]
    match graph:
        case "flat":
            return ["end", "end", *busy, *["end"] * 4]
        case "inline":
            return [["end", "end"], *[["end", "wait", "loop", "end", "end"]] * slots, ["end"], ["end"]]
        case _:
            return [["end", act, "end", "end"] for act in busy]


def with_a_failure(graph: str, slots: int) -> list[Any]:
    """What takes every place, one of them with an instance that is to fail, and leaves a dozen for no place."""
    busy = ("fail", "loop", "wait")[:slots]
    match graph:
        case "flat":
            return ["end", "end", *busy, *["wait"] * 12]
        case "inline":
            return [["end", "end"], ["end", "fail"], *[["end", "wait", "loop", "end"]] * (slots - 1), *[["wait"]] * 12]
        case _:
            # Any of them may come first.
            return [["end", "fail", "loop"], *[["end", "fail", "wait", "wait"]] * 6]


def rows_ended(acts: list[Any], ended: set[str]) -> set[str]:
    """The rows all of whose pieces are among these."""
    rows = {str(at): {f"{at}.{inner}" for inner in range(len(row))} for at, row in enumerate(acts) if row not in ACTS}
    return {place for place, inner in rows.items() if inner <= ended}


async def until_recorded(run: Driven, scene: Scene, acts: list[Any]) -> set[str]:
    """Wait until all that has ended is recorded, also inside of what has not."""
    ended = scene.places("ended")
    kept = ended | rows_ended(acts, ended)
    assert kept
    assert await run.until_recorded(len(kept)) == kept
    return kept


def assert_told(scene: Scene, at: float) -> None:
    """Whatever was stopped was told in time."""
    told = scene.notes("cancelled", "told")
    assert all(note.at - at < TOLD_WITHIN_SECONDS for note in told), [note.at - at for note in told]


@each_graph
async def test_a_cancel_is_told_within_a_heartbeat_and_nothing_begins_after_it(
    scene: Scene, pool: "Pool", graph: str
) -> None:
    acts = that_wait(graph, SLOTS[pool])
    async with driven(scene, graph, acts) as run:
        await scene.until_busy(places_of(acts, "wait", "loop"))
        kept, begun = await until_recorded(run, scene, acts), scene.places("began")
        assert places_of(acts, "end") - begun
        at = time.time()
        await run.handle.cancel()
        assert run.handle.status().status is RunStatus.CANCELLED
        with pytest.raises(RunCancelled):
            await run.handle.result()
        await scene.until_still()
        assert_told(scene, at)
        assert scene.places("began") == begun
        assert (await run.row()).status is RunStatus.CANCELLED
        assert await run.recorded() == kept
        await run.assert_consistent()
        assert scene.ledger_keys(run.run_id) == {"tombstone"}
        with pytest.raises(RunCancelled):
            await run.resume()
    assert set(scene.executions().values()) == {1}


@each_graph
async def test_a_failure_is_told_within_a_heartbeat_and_a_resume_runs_what_is_not_recorded(
    scene: Scene, pool: "Pool", graph: str
) -> None:
    acts = with_a_failure(graph, slots := SLOTS[pool])
    # Two wait in each row that runs inline, but in the one that fails.
    most = 2 * slots - 1 if graph == "inline" else slots
    async with driven(scene, graph, acts) as run:
        await until(lambda: len(scene.places("waiting")) == most, what="every place is taken", because=scene.because)
        kept = await until_recorded(run, scene, acts)
        scene.tell("fail")
        with pytest.raises(GraphError, match="as planned"):
            await run.handle.result()
        at, begun = time.time(), scene.places("began")
        await scene.until_still()
        assert_told(scene, at)
        # What has been claimed by then, a place each, may say so after the failure is known.
        assert len(scene.places("began") - begun) <= slots
        assert (await run.row()).status is RunStatus.FAILED
        assert await run.recorded() >= kept
        kept = await run.recorded()
    scene.tell("mended")
    before = scene.executions()
    async with driven(scene, graph, acts, run_id=run.run_id) as resumed:
        assert (await resumed.handle.result()).outs == acts
        assert (await resumed.verified()).ok
    again = {place for place, count in scene.executions().items() if count > before[place]}
    assert not again & kept


def at_random(choice: Random, graph: str, count: int) -> list[Any]:
    """Quick ones, with one among them, after `count` others, that keeps the run from its end."""
    acts: list[Any] = choice.choices(["nap", "end"], k=COUNT)
    acts[choice.randrange(count, COUNT)] = choice.choice(["wait", "loop"])
    return acts if graph == "flat" else [acts[at : at + 4] for at in range(0, COUNT, 4)]


@each_graph
async def test_the_record_adds_up_whenever_the_run_is_cancelled(scene: Scene, pool: "Pool", graph: str) -> None:
    choice = Random(f"{pool} {graph}")
    count = choice.randrange(COUNT)
    acts = at_random(choice, graph, count)
    async with driven(scene, graph, acts) as run:
        await until(
            lambda: len(scene.places("began")) >= count or scene.places("waiting"),
            what=f"{count} begin",
            because=scene.because,
        )
        await asyncio.sleep(choice.uniform(0, 0.05))
        await run.handle.cancel()
        at_the_cancel = scene.places("began")
        await scene.until_still()
        # An instance that was running may begin what is nested in it until it is told.
        assert graph == "inline" or len(scene.places("began") - at_the_cancel) <= SLOTS[pool]
        assert set(scene.executions().values()) <= {1}
        ended = scene.places("ended")
        assert await run.recorded() <= ended | rows_ended(acts, ended)
        await run.assert_consistent()
        assert scene.ledger_keys(run.run_id) <= {"tombstone"}
