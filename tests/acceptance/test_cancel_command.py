"""`rollforward cancel` during a run that another process drives."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollforward.assembly import opened_store
from tests.graph.cancellable import Act
from tests.service.cancelling import GRAPHS, MARGIN_SECONDS, Scene, at_work, recorded
from tests.service.cli import CommandLine
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, WorkerProcess, wait_until

GRAPH = "tests.graph.cancellable:flat"
ACTS: list[Act] = ["end", "end", "wait", "loop", "end", "end"]
CANCELLED = 4
"""The exit code of a command whose run is cancelled."""

ASKED_WITHIN_SECONDS = 3.0
"""An orchestrator that renews its lease on the run finds the wish to cancel."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    redis = RedisServer(tmp_path / "redis").start()
    worker = WorkerProcess(tmp_path, redis_url=redis.url, graphs=GRAPHS, concurrency=2)
    try:
        with at_work(worker):
            yield Scene(tmp_path, redis, because=worker.log.read_text)
    finally:
        redis.stop()


@pytest.fixture
def deployed(cli: CommandLine, scene: Scene) -> CommandLine:
    settings = scene.settings
    environment = {
        "ROLLFORWARD_REDIS_URL": str(settings.redis_url),
        "ROLLFORWARD_CHECKPOINT_URL": settings.checkpoint_url,
        "ROLLFORWARD_GRAPHS": ",".join(GRAPHS),
        "ROLLFORWARD_LEASE_SECONDS": str(settings.lease_seconds),
        "ROLLFORWARD_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
    }
    return CommandLine(cli.folder, environment, cli.mark)


def kept(scene: Scene) -> set[str]:
    """The places of the run whose contribution is recorded."""

    async def read() -> set[str]:
        async with opened_store(scene.settings) as store:
            return await recorded(store, "one")

    return asyncio.run(read())


def test_a_run_that_another_process_drives_stops_on_every_worker_and_keeps_what_is_recorded(
    deployed: CommandLine, scene: Scene
) -> None:
    fields = (f"acts={json.dumps(ACTS)}", f"folder={json.dumps(str(scene.folder))}")
    given = [part for field in fields for part in ("--set", field)]
    with deployed.started("run", GRAPH, "--run-id", "one", "--progress", "none", *given) as driving:
        wait_until(lambda: scene.places("waiting") == {"2", "3"}, what="both places are taken", because=scene.because)
        wait_until(lambda: kept(scene) == {"0", "1"}, what="what has ended is recorded")
        asked = deployed.ok("cancel", "one", "-o", "json")
        at = time.time()
        _, stderr = driving.communicate(timeout=30)
    assert asked.document["is_cancel_requested"]
    (sentence,) = stderr.splitlines()
    assert (driving.returncode, sentence.startswith("rollforward: run one was cancelled")) == (CANCELLED, True)
    wait_until(lambda: scene.is_drained() and not scene.running(), what="nothing runs", because=scene.because)
    told = scene.notes("cancelled", "told")
    assert {(note.what, note.place) for note in told} == {("cancelled", "2"), ("told", "3")}
    assert all(note.at - at < ASKED_WITHIN_SECONDS + HEARTBEAT_SECONDS + MARGIN_SECONDS for note in told)
    assert scene.executions() == dict.fromkeys(("0", "1", "2", "3"), 1)
    shown = deployed.ok("status", "one", "-o", "json").document
    assert (shown["status"], shown["recorded"], shown["counts"]["running"]) == ("cancelled", 2, 0)
    refused = deployed.run("resume", "one")
    assert (refused.code, "cannot go on" in refused.stderr) == (CANCELLED, True)
    assert kept(scene) == {"0", "1"}
