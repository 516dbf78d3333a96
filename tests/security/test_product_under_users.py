"""The whole product under the Redis users that we ship: every command works, and nobody is denied anything."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.security.users import GuardedRedis
from tests.service.cli import CommandLine
from tests.service.worker import REPOSITORY, WorkerProcess, wait_until

GRAPH = "tests.graph.tiny:graph"
GRAPHS = "tests.graph.tiny"
MONITORED = {"ROLLFORWARD_MONITORING": "1"}
READING = ("status", "items", "errors", "results", "verify")

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("watched")]


@pytest.fixture(scope="module")
def worker(guarded: GuardedRedis) -> Iterator[WorkerProcess]:
    url = guarded.url_of("worker")
    with WorkerProcess(guarded.folder, redis_url=url, graphs=[GRAPHS], environment=MONITORED) as started:
        yield started


def of_role(cli: CommandLine, guarded: GuardedRedis, role: str) -> CommandLine:
    """The command line with ledger, broker and record in the one Redis."""
    url = guarded.url_of(role)
    settings = {"ROLLFORWARD_REDIS_URL": url, "ROLLFORWARD_CHECKPOINT_URL": url, "ROLLFORWARD_GRAPHS": GRAPHS}
    return CommandLine(cli.folder, {**settings, **MONITORED}, cli.mark)


@pytest.fixture
def orchestrator(cli: CommandLine, guarded: GuardedRedis) -> CommandLine:
    return of_role(cli, guarded, "orchestrator")


@pytest.fixture
def dashboard(cli: CommandLine, guarded: GuardedRedis) -> CommandLine:
    return of_role(cli, guarded, "dashboard")


def waiting(run_id: str, folder: Path) -> list[str]:
    fields = ("numbers=[0, 1, 2, 3]", 'act="wait"', f'folder="{folder}"')
    return [GRAPH, "--run-id", run_id, *(part for field in fields for part in ("--set", field))]


def begun(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("started-*")}


@pytest.mark.usefixtures("worker")
def test_a_run_ends_and_a_dashboard_reads_all_of_it(orchestrator: CommandLine, dashboard: CommandLine) -> None:
    numbers = ("--set", "numbers=[1, 2]", "--run-id", "read", "-o", "json")
    assert orchestrator.ok("run", GRAPH, *numbers).document["state"]["results"] == ["2", "4"]
    for command in READING:
        dashboard.ok(command, "read")
    assert "read" in dashboard.ok("ls").stdout
    assert dashboard.ok("status", "read", "-o", "json").document["problems"] == []


def test_a_run_outlives_its_server_a_child_of_its_worker_and_a_dashboard_sees_it(
    orchestrator: CommandLine, dashboard: CommandLine, worker: WorkerProcess
) -> None:
    folder = orchestrator.folder
    orchestrator.ok("run", *waiting("survivor", folder), "--detach")
    with orchestrator.started("serve") as server:
        wait_until(lambda: len(begun(folder)) == 2, what="two instances begin", because=worker.log.read_text)
        shown = dashboard.ok("status", "survivor", "-o", "json").document
        assert (shown["status"], shown["counts"]["running"], shown["problems"]) == ("running", 2, [])
        server.kill()
    before = begun(folder)
    os.kill(worker.children[0], signal.SIGKILL)
    with orchestrator.started("resume", "survivor", "-o", "json") as resumed:
        wait_until(lambda: begun(folder) > before, what="the lost instance begins anew", because=worker.log.read_text)
        (folder / "go").touch()
        out, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert len(json.loads(out)["state"]["results"]) == 4


@pytest.mark.usefixtures("worker")
def test_a_run_that_nobody_drives_is_cancelled(orchestrator: CommandLine, dashboard: CommandLine) -> None:
    folder = orchestrator.folder
    with orchestrator.started("run", *waiting("stray", folder)) as driving:
        wait_until(lambda: len(begun(folder)) == 2, what="two instances begin")
        driving.kill()
        driving.wait()
    assert "may still begin" not in orchestrator.ok("cancel", "stray").stderr
    assert dashboard.ok("status", "stray", "-o", "json").document["status"] == "cancelled"


def test_a_run_may_bring_its_workers(orchestrator: CommandLine) -> None:
    ended = orchestrator.ok("run", GRAPH, "--set", "numbers=[3]", "--workers", "1", "-o", "json")
    assert ended.document["state"]["results"] == ["6"]


@contextmanager
def flower(guarded: GuardedRedis, folder: Path, port: int) -> Iterator[None]:
    options = ("--address=127.0.0.1", f"--port={port}", "--read_only=True", "--enable_events=False")
    environment = {**os.environ, **MONITORED, "ROLLFORWARD_REDIS_URL": guarded.url_of("flower")}
    with (folder / "flower.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "workers.app", "flower", *options],
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
            env={**environment, "FLOWER_UNAUTHENTICATED_API": "true"},
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def told(url: str) -> dict[str, object]:
    """What Flower's API answers; nothing while it does not."""
    try:
        with urllib.request.urlopen(url, timeout=15) as response:
            answer: dict[str, object] = json.loads(response.read())
            return answer
    except OSError:
        return {}


def test_flower_sees_workers_and_instances(
    guarded: GuardedRedis, orchestrator: CommandLine, worker: WorkerProcess, unused_tcp_port: int
) -> None:
    api = f"http://127.0.0.1:{unused_tcp_port}/api"
    with flower(guarded, orchestrator.folder, unused_tcp_port):
        found = wait_until(lambda: told(f"{api}/workers?refresh=1"), what="Flower sees the worker")
        assert set(found) == {worker.name}
        orchestrator.ok("run", GRAPH, "--set", "numbers=[1, 2]")
        wait_until(lambda: len(told(f"{api}/tasks")) == 2, what="Flower sees the instances")
    assert "failed" not in (orchestrator.folder / "flower.log").read_text()
