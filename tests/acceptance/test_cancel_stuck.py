"""A node that goes on in spite of its cancellation keeps nobody waiting, and what it comes to afterwards is its own."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import GraphError
from tests.graph.cancellable import Act
from tests.service.cancelling import GRAPHS, MARGIN_SECONDS, Scene, at_work, driven, until
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, WorkerProcess

if TYPE_CHECKING:
    from workers.launch import Pool

GIVEN_UP_AFTER_SECONDS = 2 * HEARTBEAT_SECONDS

each_stuck = pytest.mark.parametrize("stuck", ["ignore", "block"])


@pytest.fixture(scope="module")
def redis_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=["prefork", "threads"])
def worker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_here: RedisServer
) -> Iterator[WorkerProcess]:
    pool: Pool = request.param
    folder = tmp_path_factory.mktemp(pool)
    with at_work(WorkerProcess(folder, redis_url=redis_here.url, graphs=GRAPHS, pool=pool, concurrency=2)) as started:
        yield started


@pytest.fixture
def scene(tmp_path: Path, redis_here: RedisServer, worker: WorkerProcess) -> Scene:
    return Scene(tmp_path, redis_here, because=worker.log.read_text)


@each_stuck
async def test_a_failed_run_does_not_wait_for_it_and_records_nothing_of_it(scene: Scene, stuck: Act) -> None:
    async with driven(scene, "flat", ["end", "fail", stuck, "end"]) as run:
        await run.until_recorded(1)
        await scene.until_busy({"1", "2"})
        at = time.monotonic()
        scene.tell("fail")
        with pytest.raises(GraphError, match="as planned"):
            await run.handle.result()
        assert time.monotonic() - at < GIVEN_UP_AFTER_SECONDS + MARGIN_SECONDS
        assert "2" in scene.running()
        kept = await run.recorded()
        assert "2" not in kept
        scene.tell("go")
        await scene.until_still()
        assert await run.recorded() == kept
        assert (await run.row()).status is RunStatus.FAILED
    scene.tell("mended")
    before = scene.executions()
    async with driven(scene, "flat", [], run_id=run.run_id) as resumed:
        assert (await resumed.handle.result()).outs == ["end", "fail", stuck, "end"]
        assert (await resumed.verified()).ok
    assert {place for place in kept if scene.executions()[place] > before[place]} == set()


@each_stuck
async def test_a_cancelled_run_does_not_wait_for_it_and_takes_no_late_report(scene: Scene, stuck: Act) -> None:
    async with driven(scene, "flat", ["end", stuck, "wait", "end"]) as run:
        await run.until_recorded(1)
        await scene.until_busy({"1", "2"})
        await run.handle.cancel()
        assert "1" in scene.running()
        kept = await run.recorded()
        await until(lambda: "2" in scene.places("cancelled"), what="the other is told", because=scene.because)
        scene.tell("go")
        await scene.until_still()
        assert await run.recorded() == kept
        assert scene.ledger_keys(run.run_id) == {"tombstone"}
        assert (await run.row()).status is RunStatus.CANCELLED
