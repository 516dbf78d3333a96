"""Every script of ours is called by the user that a deployment gives it, in scenes of the whole product."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.checkpointers.redis.store import RedisStore
from tests.security.users import GuardedRedis
from tests.security.watch import LEDGER, RECORD, Watch, verbs
from tests.service.cli import CommandLine
from tests.service.worker import HEARTBEAT_SECONDS, LEASE_SECONDS, WorkerProcess, wait_until

GRAPHS = tuple(
    f"tests.graph.{name}" for name in ("tiny", "nested_witnessed", "durable_witnessed", "stopping", "rolling")
)
TINY, STOPPING = "tests.graph.tiny:graph", "tests.graph.stopping:graph"
READING = ("status", "items", "logs", "errors", "results", "verify")
OF_WORKER = frozenset({"announce", "beat", "briefing", "claim", "decline", "progress", "release", "report"})
TO_LOOK_AT = frozenset({"live", "epoch", "told", "usage", "workers", "slots", "errors"})
FORGED = "no report at all"

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("emptied")]


@dataclass(frozen=True, slots=True)
class Scene:
    """A deployment of which each process has the URL of its user."""

    folder: Path
    guarded: GuardedRedis
    cli: CommandLine
    watch: Watch

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ROLLFORWARD_GRAPHS": ",".join(GRAPHS),
            "ROLLFORWARD_LEASE_SECONDS": str(LEASE_SECONDS),
            "ROLLFORWARD_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "ROLLFORWARD_WITNESS": str(self.folder / "witness"),
        }

    def of(self, role: str) -> CommandLine:
        url = self.watch.url_of(role)
        urls = {"ROLLFORWARD_REDIS_URL": url, "ROLLFORWARD_CHECKPOINT_URL": url}
        return CommandLine(self.folder, {**self.environment, **urls}, self.cli.mark)

    @contextmanager
    def worker(
        self, name: str = "worker", *, graphs: tuple[str, ...] = GRAPHS, version: str = "1"
    ) -> Iterator[WorkerProcess]:
        process = WorkerProcess(
            self.folder,
            redis_url=self.watch.url_of("worker"),
            graphs=graphs,
            concurrency=3,
            name=name,
            environment={**self.environment, "ROLLFORWARD_GRAPHS": ",".join(graphs), "ROLLING_VERSION": version},
        )
        with process as started:
            yield started

    def begun(self, folder: Path) -> set[str]:
        return {path.name for path in folder.glob("started-*")}

    def until_begun(self, folder: Path, count: int) -> None:
        wait_until(lambda: len(self.begun(folder)) >= count, what=f"{count} instances begin in {folder}")


@pytest.fixture
def scene(tmp_path: Path, guarded: GuardedRedis, cli: CommandLine) -> Iterator[Scene]:
    watch = Watch(guarded)
    yield Scene(tmp_path, guarded, cli, watch)
    watch.stop()


def waiting(run_id: str, folder: Path, *, graph: str = TINY, count: int = 4) -> list[str]:
    folder.mkdir()
    fields = (f"numbers={list(range(count))}", 'act="wait"', f'folder="{folder}"')
    return [graph, "--run-id", run_id, *(part for field in fields for part in ("--set", field))]


def nested_and_durable(scene: Scene) -> None:
    owner = scene.of("orchestrator")
    owner.ok("run", "tests.graph.nested_witnessed:graph", "--set", "rows=[[1, 2], [4]]", "--run-id", "nested")
    owner.ok("run", "tests.graph.durable_witnessed:graph", "--set", "numbers=[1, 2]", "--run-id", "durable")


def failed_while_nobody_drove(scene: Scene) -> None:
    """Under `fail_fast` a failure that an earlier invocation left unrecorded is run again."""
    owner, witness = scene.of("orchestrator"), scene.folder / "witness"
    witness.touch()
    with owner.started("run", STOPPING, "--set", "numbers=[1]", "--run-id", "left") as run:
        wait_until(lambda: "began-1" in witness.read_text(), what="the instance begins")
        run.kill()
    with witness.open("a") as file:
        file.write("began-2 0\nlooping-3 0\n")
    with scene.guarded.client() as client:
        (fan_out,) = client.smembers("rollforward:run:{left}:fan_outs")
        kept = f"rollforward:run:{{left}}:{fan_out.decode()}:reports"
        wait_until(lambda: client.exists(kept), what="its failure is reported")
    (scene.folder / "witness.mended").touch()
    assert owner.ok("resume", "left", "-o", "json").document["state"]["results"] == [10]
    for path in scene.folder.glob("witness*"):
        path.unlink()


def failing_fast_and_resumed(scene: Scene) -> None:
    owner = scene.of("orchestrator")
    failed = owner.run("run", STOPPING, "--set", "numbers=[0, 1, 2, 3]", "--run-id", "fast")
    assert failed.code == 1, failed.stderr
    (scene.folder / "witness.mended").touch()
    assert owner.ok("resume", "fast", "-o", "json").document["state"]["results"] == [0, 10, 20, 30]


def taken_over_after_the_death_of_a_child(scene: Scene, worker: WorkerProcess) -> None:
    owner, folder = scene.of("orchestrator"), scene.folder / "survivor"
    owner.ok("run", *waiting("survivor", folder), "--detach")
    with owner.started("serve") as server:
        scene.until_begun(folder, 3)
        server.kill()
    before = scene.begun(folder)
    os.kill(int(next(iter(before)).rpartition("-")[2]), signal.SIGKILL)
    with owner.started("serve") as server:
        wait_until(lambda: scene.begun(folder) > before, what="what was lost begins anew", because=worker.log.read_text)
        (folder / "go").touch()
        wait_until(lambda: status(scene, "survivor") == "succeeded", what="the run ends")
        server.terminate()
        server.communicate(timeout=30)


def reported_by_nobody(scene: Scene) -> None:
    """What others have put in the place of a report is thrown away."""
    owner, folder = scene.of("orchestrator"), scene.folder / "forged"
    with (
        owner.started("run", *waiting("forged", folder, count=1), "-o", "json") as run,
        scene.guarded.client() as client,
    ):
        scene.until_begun(folder, 1)
        (fan_out,) = client.smembers("rollforward:run:{forged}:fan_outs")
        client.hset(f"rollforward:run:{{forged}}:{fan_out.decode()}:reports", "0", FORGED)
        wait_until(lambda: "discard" in scene.watch.seen("orchestrator", LEDGER), what="it is thrown away")
        (folder / "go").touch()
        out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert len(json.loads(out)["state"]["results"]) == 1


def declined_and_cancelled(scene: Scene) -> None:
    owner, folder = scene.of("orchestrator"), scene.folder / "declined"
    given = waiting("declined", folder, graph="tests.graph.rolling:shared")
    with scene.worker("new", graphs=("tests.graph.rolling",), version="2") as new, owner.started("run", *given) as run:
        wait_until(lambda: "instance declined" in new.log.read_text(), what="the new version declines")
        owner.ok("cancel", "declined")
        run.communicate(timeout=60)
    assert status(scene, "declined") == "cancelled"


def looked_at(scene: Scene) -> None:
    dashboard, owner = scene.of("dashboard"), scene.of("orchestrator")
    for run_id in ("nested", "durable", "fast", "survivor", "declined"):
        for command in READING:
            assert dashboard.run(command, run_id).code in (0, 1)
    dashboard.ok("ls")
    owner.ok("doctor")


def deleted(scene: Scene) -> None:
    async def delete() -> None:
        store = RedisStore(scene.watch.url_of("orchestrator"), namespace="rollforward")
        await store.delete("nested")
        await store.close()

    asyncio.run(delete())


def status(scene: Scene, run_id: str) -> str:
    return str(scene.of("dashboard").ok("status", run_id, "-o", "json").document["status"])


def test_every_script_is_called_by_its_own_user(scene: Scene) -> None:
    with scene.worker() as worker:
        nested_and_durable(scene)
        failed_while_nobody_drove(scene)
        failing_fast_and_resumed(scene)
        taken_over_after_the_death_of_a_child(scene, worker)
        reported_by_nobody(scene)
        declined_and_cancelled(scene)
        looked_at(scene)
        deleted(scene)
    scene.watch.catch_up()
    seen = scene.watch.seen
    assert OF_WORKER - seen("worker", LEDGER) == set()
    assert verbs(LEDGER) - OF_WORKER - seen("orchestrator", LEDGER) == set()
    assert verbs(RECORD) - seen("orchestrator", RECORD) == set()
    assert seen("worker", RECORD) == set()
    assert seen("dashboard", LEDGER) | seen("dashboard", RECORD) <= TO_LOOK_AT
