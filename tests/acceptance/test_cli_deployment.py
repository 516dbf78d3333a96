"""The command line against a deployment: a Redis, workers and servers that do not end with it."""

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from tests.service.cli import CommandLine
from tests.service.worker import WorkerProcess, wait_until

GRAPH = "tests.graph.tiny:graph"
GRAPHS = "tests.graph.tiny"
COUNT = 6


@pytest.fixture
def deployed(cli: CommandLine, redis_url: str) -> CommandLine:
    environment = {
        "ROLLFORWARD_REDIS_URL": redis_url,
        "ROLLFORWARD_GRAPHS": GRAPHS,
        "ROLLFORWARD_CHECKPOINT_URL": f"sqlite:///{cli.folder}/state.db",
    }
    return CommandLine(cli.folder, environment, cli.mark)


@pytest.fixture
def worker(tmp_path: Path, redis_url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path, redis_url=redis_url, graphs=[GRAPHS], pool="threads", concurrency=2) as started:
        yield started


def waiting(folder: Path) -> tuple[str, ...]:
    fields = [f"numbers={list(range(COUNT))}", 'act="wait"', f'folder="{folder}"']
    return (GRAPH, "--run-id", "one", *(part for one in fields for part in ("--set", one)))


def instance_starts(folder: Path) -> None:
    wait_until(lambda: list(folder.glob("started-*")), what="an instance starts")


def status(cli: CommandLine) -> str:
    found = cli.run("status", "one", "-o", "json")
    return found.document["status"] if found.code == 0 else ""


def owner_of_one(cli: CommandLine) -> str:
    return cli.ok("status", "one", "-o", "json").document["owner"] or ""


def logged(folder: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@contextmanager
def serving(cli: CommandLine, name: str) -> Iterator[Popen[str]]:
    """A server that has begun to serve, and logs to a file of that name."""
    log = cli.folder / name
    with cli.started("serve", stderr=log) as process:
        wait_until(lambda: "serving" in log.read_text(), what="the server serves", because=log.read_text)
        yield process


@pytest.mark.usefixtures("worker")
def test_a_run_uses_the_workers_of_the_deployment(deployed):
    ended = deployed.ok("run", GRAPH, "--set", "numbers=[1, 2]", "-o", "json")
    assert ended.document["state"]["results"] == ["2", "4"]
    items = deployed.ok("items", ended.document["run_id"], "-o", "jsonl").lines
    assert {item["worker"] for item in items} == {"worker@test"}
    assert not (deployed.folder / ".rollforward").exists()


def test_workers_may_be_started_for_a_run(deployed):
    ended = deployed.ok("run", GRAPH, "--set", "numbers=[1, 2]", "--workers", "1", "-o", "json")
    assert ended.document["state"]["results"] == ["2", "4"]
    assert deployed.processes() == []


def test_a_missing_worker_is_said_at_once(deployed, tmp_path, redis_url):
    with deployed.started("run", GRAPH, "--set", "numbers=[1]", "--run-id", "one") as process:
        assert process.stderr is not None
        assert "No live worker has graph tiny (fingerprint " in process.stderr.readline()
        wait_until(lambda: status(deployed) == "running", what="the run is running")
        problems = deployed.ok("status", "one", "-o", "json").document["problems"]
        assert "no_worker" in [problem["code"] for problem in problems]
        with WorkerProcess(tmp_path, redis_url=redis_url, graphs=[GRAPHS], pool="threads"):
            process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.usefixtures("worker")
def test_ctrl_c_detaches_and_another_goes_on(deployed):
    with deployed.started("run", *waiting(deployed.folder)) as process:
        instance_starts(deployed.folder)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "rollforward resume one" in stderr
    assert status(deployed) == "submitted"
    (deployed.folder / "go").touch()
    deployed.ok("resume", "one")
    assert [item["delivery_attempt"] for item in deployed.ok("items", "one", "-o", "jsonl").lines] == [1] * COUNT


@pytest.mark.usefixtures("worker")
def test_resume_need_not_wait_for_the_lease_of_a_dead_orchestrator(deployed):
    with deployed.started("run", *waiting(deployed.folder)) as process:
        instance_starts(deployed.folder)
        process.kill()
        process.wait()
        assert status(deployed) == "running"
        (deployed.folder / "go").touch()
        deployed.ok("resume", "one")
    assert deployed.ok("verify", "one", "-o", "json").document["ok"]


@pytest.mark.usefixtures("worker")
def test_an_orchestrator_whose_run_was_taken_over_says_so_and_does_not_advise_to_resume(deployed):
    with deployed.started("run", *waiting(deployed.folder)) as process:
        instance_starts(deployed.folder)
        with closing(sqlite3.connect(deployed.folder / "state.db")) as database, database:
            database.execute("UPDATE rollforward_runs SET epoch = epoch + 1")
        _, stderr = process.communicate(timeout=30)
    (deployed.folder / "go").touch()
    assert process.returncode == 1
    assert "another orchestrator has taken run one over" in stderr
    assert "rollforward status one --watch" in stderr
    assert "resume" not in stderr


@pytest.mark.usefixtures("worker")
def test_status_names_a_paused_dispatch_by_its_code(deployed):
    deployed.ok("run", GRAPH, "--set", "numbers=[1]", "--run-id", "one")
    paused = "dispatch paused: Redis has used 80% of its maxmemory"
    with closing(sqlite3.connect(deployed.folder / "state.db")) as database, database:
        lease = "lease_until = created_at + 3600000000"
        database.execute(f"UPDATE rollforward_runs SET status = 'running', health = ?, {lease}", (paused,))
    (problem,) = deployed.ok("status", "one", "-o", "json").document["problems"]
    assert problem == {"code": "dispatch_paused", "message": paused}


@pytest.mark.usefixtures("worker")
def test_a_detached_run_is_driven_by_a_server(deployed):
    submitted = deployed.ok("run", *waiting(deployed.folder), "--detach", "-o", "json").document
    assert (submitted["run_id"], submitted["status"], submitted["state"]) == ("one", "submitted", None)
    (deployed.folder / "go").touch()
    with serving(deployed, "server.log"):
        wait_until(lambda: status(deployed) == "succeeded", what="the run succeeds")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_leaves_its_runs_to_another(deployed, number):
    deployed.ok("run", *waiting(deployed.folder), "--detach")
    with serving(deployed, "first.log") as first:
        instance_starts(deployed.folder)
        with serving(deployed, "second.log") as second:
            assert f":{first.pid}:" in owner_of_one(deployed)
            first.send_signal(number)
            first.wait(timeout=30)
            wait_until(lambda: f":{second.pid}:" in owner_of_one(deployed), what="the second server has the run")
            (deployed.folder / "go").touch()
            wait_until(lambda: status(deployed) == "succeeded", what="the run succeeds")
    handed_back = [line["event"] for line in logged(deployed.folder, "first.log")].count("run handed back")
    assert handed_back == (number == signal.SIGTERM)
    assert "run taken" in [line["event"] for line in logged(deployed.folder, "second.log")]
    assert deployed.ok("verify", "one", "-o", "json").document["ok"]


def test_a_server_leaves_runs_of_unknown_graphs_alone(deployed):
    fields = ("--executor", "local", "--run-id", "one")
    failed = deployed.run("run", "tests.graph.crashing:graph", *fields)
    assert failed.code == 1
    with deployed.started("run", "tests.graph.crashing:graph", "--run-id", "two", "--detach") as process:
        process.communicate(timeout=30)
    with serving(deployed, "server.log"):
        wait_until(
            lambda: "left alone" in (deployed.folder / "server.log").read_text(), what="the server says what it leaves"
        )
        deployed.ok("ls")
    (serving_line, left) = logged(deployed.folder, "server.log")
    assert (serving_line["event"], left["event"]) == ("serving", "run of an unknown graph left alone")
    seen = deployed.ok("status", "two", "-o", "json").document
    assert (left["run_id"], left["correlation_id"]) == ("two", seen["correlation_id"])
    assert seen["status"] == "submitted"


def test_serve_needs_a_deployment_and_graphs(cli, deployed):
    assert "serve needs a deployment" in cli.run("serve").stderr
    bare = CommandLine(deployed.folder, {**deployed.environment, "ROLLFORWARD_GRAPHS": ""}, deployed.mark)
    assert "ROLLFORWARD_GRAPHS" in bare.run("serve").stderr
    broken = CommandLine(deployed.folder, {**deployed.environment, "ROLLFORWARD_GRAPHS": "no_such"}, deployed.mark)
    ended = broken.run("serve")
    assert (ended.code, "Traceback" in ended.stderr) == (2, False)
    assert "no_such" in ended.stderr


@pytest.mark.usefixtures("worker")
def test_status_says_that_redis_is_away(deployed):
    with deployed.started("run", *waiting(deployed.folder)):
        instance_starts(deployed.folder)
        away = {**deployed.environment, "ROLLFORWARD_REDIS_URL": "redis://127.0.0.1:1/0"}
        document = CommandLine(deployed.folder, away).ok("status", "one", "-o", "json").document
        (deployed.folder / "go").touch()
    assert [problem["code"] for problem in document["problems"]] == ["redis_away"]
    assert document["total"] == COUNT


def test_migrate_may_be_run_again_and_again(cli):
    first, second = cli.ok("migrate").stderr, cli.ok("migrate").stderr
    assert "has this version's schema now" in first
    assert "had this version's schema already" in second
    assert first.count("\n") == 1


def test_a_worker_needs_a_redis(cli):
    ended = cli.run("worker")
    assert ended.code == 2
    assert "ROLLFORWARD_REDIS_URL" in ended.stderr
