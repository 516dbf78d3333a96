"""A worker that was away, or not there yet, while its run was stopped begins nothing of it."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import GraphError
from tests.graph.cancellable import Act
from tests.service.cancelling import GRAPHS, MARGIN_SECONDS, Driven, Scene, at_work, driven, until
from tests.service.proxy import Proxy
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, WorkerProcess

SLOTS = 2
ACTS: list[Act] = ["wait", "loop", "wait", "loop", "wait", "loop", "wait", "loop"]
COUNT = len(ACTS)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    redis = RedisServer(tmp_path / "redis").start()
    try:
        yield Scene(tmp_path, redis)
    finally:
        redis.stop()


@pytest.fixture
def network(scene: Scene) -> Iterator[Proxy]:
    with Proxy(scene.redis.port) as network:
        yield network


@contextmanager
def worker(scene: Scene, name: str, *, slots: int = SLOTS, redis_url: str | None = None) -> Iterator[WorkerProcess]:
    """A worker, which may have its Redis elsewhere; it is killed at the end, as a frozen one cannot stop."""
    url = redis_url or scene.redis.url
    with at_work(WorkerProcess(scene.folder, redis_url=url, graphs=GRAPHS, concurrency=slots, name=name)) as started:
        yield started


@contextmanager
def frozen(worker: WorkerProcess) -> Iterator[None]:
    """Freeze the worker with its children, and wake them at the end."""
    processes = [psutil.Process(pid) for pid in (worker.pid, *worker.children)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def test_a_worker_that_is_busy_and_away_during_a_cancel_stops_what_it_runs_and_begins_nothing(
    scene: Scene,
) -> None:
    with worker(scene, "away") as away:
        async with driven(scene, "flat", ACTS) as run:
            begun = await all_places_taken(scene)
            with frozen(away):
                await run.handle.cancel()
                assert scene.running() == begun
                assert scene.waiting() > 0
            await stops(run, scene, begun)


async def test_a_worker_that_is_busy_and_without_network_during_a_cancel_stops_when_it_is_back_and_begins_nothing(
    scene: Scene, network: Proxy
) -> None:
    with worker(scene, "away", redis_url=network.redis_url) as away:
        async with driven(scene, "flat", ACTS) as run:
            begun = await all_places_taken(scene)
            with network.cut():
                await run.handle.cancel()
                await until(lambda: "heartbeat not heard" in away.log.read_text(), what="the worker finds itself alone")
                assert scene.running() == begun
                assert scene.waiting() > 0
            await stops(run, scene, begun)


async def test_a_worker_that_is_sent_messages_while_away_begins_none_of_them_after_a_cancel(scene: Scene) -> None:
    with worker(scene, "away") as away:
        with frozen(away):
            async with driven(scene, "flat", ["wait"] * COUNT) as run:
                # One is on its way to the worker, where that was listening when it was frozen.
                await until(lambda: scene.waiting() >= COUNT - 1, what="all are queued")
                await run.handle.cancel()
        await scene.until_still()
        assert scene.notes() == []


async def test_a_worker_that_starts_after_a_cancel_begins_nothing_of_what_is_still_queued(scene: Scene) -> None:
    async with driven(scene, "flat", ["wait"] * COUNT) as run:
        await until(lambda: scene.waiting() == COUNT, what="all are queued")
        await run.handle.cancel()
        assert scene.waiting() == COUNT
        with worker(scene, "late"):
            await scene.until_still()
        assert scene.notes() == []


async def test_a_failed_run_does_not_wait_for_a_worker_that_is_away_and_tells_it_when_it_is_back(scene: Scene) -> None:
    acts = [*["wait"] * SLOTS, "fail", *["wait"] * COUNT]
    with worker(scene, "away") as away:
        async with driven(scene, "flat", acts) as run:
            await until(lambda: len(scene.places("waiting")) == SLOTS, what="every place is taken")
            with worker(scene, "present", slots=1):
                await until(lambda: len(scene.places("waiting")) == SLOTS + 1, what="the one that fails begins")
                with frozen(away):
                    await fails(run, scene)
                    assert {"0", "1"} <= scene.running()
                await scene.until_still()
        assert {"0", "1"} <= scene.places("cancelled")
        # The place of the one that failed may have been given to another before the failure was known.
        assert len(scene.places("began")) <= SLOTS + 2
        assert await succeeds(scene, acts, run.run_id)


async def test_a_worker_that_starts_after_a_failure_begins_nothing_of_what_is_still_queued(scene: Scene) -> None:
    with worker(scene, "former", slots=1) as former:
        async with driven(scene, "flat", ["fail", *["wait"] * COUNT]) as run:
            await until(lambda: scene.places("waiting") == {"0"}, what="the one that fails begins")
            # Its child goes on, and is given nothing more.
            former.signal(signal.SIGSTOP)
            await fails(run, scene)
    assert scene.waiting() == COUNT
    with worker(scene, "late"):
        await until(
            lambda: scene.waiting() == 0 and scene.fetched() == 1, what="only the dead worker's message is left"
        )
    assert scene.places("began") == {"0"}


async def all_places_taken(scene: Scene) -> set[str]:
    """Wait until each is; say by whom."""
    await until(lambda: len(scene.places("waiting")) == SLOTS, what="every place is taken")
    return scene.places("began")


async def stops(run: Driven, scene: Scene, begun: set[str]) -> None:
    """What had begun is stopped, nothing else begins, and nothing is recorded."""
    await scene.until_still()
    assert scene.places("began") == scene.places("cancelled", "told") == begun
    assert await run.recorded() == set()


async def fails(run: Driven, scene: Scene) -> None:
    """Let the run fail, which it does within two heartbeats whoever is away."""
    scene.tell("fail")
    at = time.monotonic()
    with pytest.raises(GraphError, match="as planned"):
        await run.handle.result()
    assert time.monotonic() - at < 2 * HEARTBEAT_SECONDS + MARGIN_SECONDS
    assert (await run.row()).status is RunStatus.FAILED


async def succeeds(scene: Scene, acts: list[str], run_id: str) -> bool:
    """Let the run go on, and say whether all of it is recorded, and in order."""
    scene.tell("mended")
    async with driven(scene, "flat", acts, run_id=run_id) as resumed:
        return (await resumed.handle.result()).outs == acts and (await resumed.verified()).ok
