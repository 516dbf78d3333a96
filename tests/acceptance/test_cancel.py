"""A run that nobody drives is cancelled by the command itself: what is queued never begins, what runs is told."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollforward.cli.instance import STATES
from tests.service.cli import CommandLine
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until

GRAPH = "tests.graph.tiny:graph"
GRAPHS = "tests.graph.tiny"
COUNT = 6
AT_ONCE = 2


@pytest.fixture
def redis_here(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def deployed(cli: CommandLine, redis_here: RedisServer) -> CommandLine:
    environment = {
        "ROLLFORWARD_REDIS_URL": redis_here.url,
        "ROLLFORWARD_GRAPHS": GRAPHS,
        "ROLLFORWARD_CHECKPOINT_URL": f"sqlite:///{cli.folder}/state.db",
    }
    return CommandLine(cli.folder, environment, cli.mark)


@pytest.fixture
def worker(tmp_path: Path, redis_here: RedisServer) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(tmp_path, redis_url=redis_here.url, graphs=[GRAPHS], pool="threads", concurrency=AT_ONCE)
    with worker as started:
        yield started


def leave_in_mid_run(deployed: CommandLine, number: int) -> None:
    """Start a run, and end its orchestrator while the first instances run and the others are queued."""
    fields = [f"numbers={list(range(COUNT))}", 'act="wait"', f'folder="{deployed.folder}"']
    told = [part for one in fields for part in ("--set", one)]
    with deployed.started("run", GRAPH, "--run-id", "one", *told) as process:
        wait_until(lambda: len(begun(deployed)) == AT_ONCE, what="the first instances begin")
        process.send_signal(number)
        process.wait(timeout=30)


def begun(deployed: CommandLine) -> list[Path]:
    return list(deployed.folder.glob("started-*"))


def is_drained(server: RedisServer) -> bool:
    """No message is left, delivered or not."""
    with server.client() as client:
        return not client.zcard("rollforward:mq:unacked_index") and not client.keys("rollforward:mq:rollforward.tiny*")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_instance_begins_once_a_run_without_an_orchestrator_is_cancelled(deployed, worker, redis_here, number):
    leave_in_mid_run(deployed, number)
    cancelled = deployed.ok("cancel", "one", "-o", "json")
    assert cancelled.document["status"] == "cancelled"
    wait_until(
        lambda: is_drained(redis_here), what="the queue is empty, and nothing runs", because=worker.log.read_text
    )
    assert len(begun(deployed)) == AT_ONCE
    all_cancelled = dict.fromkeys(STATES, 0) | {"cancelled": COUNT}
    assert deployed.ok("status", "one", "-o", "json").document["counts"] == all_cancelled
    assert [item["state"] for item in deployed.ok("items", "one", "-o", "jsonl").lines] == ["cancelled"] * COUNT
    assert deployed.run("resume", "one").code == 4


@pytest.mark.usefixtures("worker")
def test_a_run_is_cancelled_also_while_redis_is_away_and_its_queue_is_cleared_by_a_second_cancel(deployed, redis_here):
    leave_in_mid_run(deployed, signal.SIGINT)
    away = CommandLine(deployed.folder, {**deployed.environment, "ROLLFORWARD_REDIS_URL": "redis://127.0.0.1:1/0"})
    cancelled = away.ok("cancel", "one", "-o", "json")
    assert cancelled.document["status"] == "cancelled"
    assert "`rollforward cancel one` again" in cancelled.stderr
    deployed.ok("cancel", "one")
    wait_until(lambda: is_drained(redis_here), what="the queue is empty, and nothing runs")
    assert len(begun(deployed)) == AT_ONCE
