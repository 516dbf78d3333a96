"""`rollforward worker` as people start it: what it says, and when it refuses to."""

import json
import socket
import urllib.request

import psutil
import pytest

from tests.service.cli import CommandLine
from tests.service.worker import wait_until


@pytest.fixture
def cli_of(redis_url, tmp_path):
    """The command line beside a Redis, with these modules as its graphs."""

    def build(graphs):
        return CommandLine(tmp_path, {"ROLLFORWARD_REDIS_URL": redis_url, "ROLLFORWARD_GRAPHS": graphs})

    return build


@pytest.mark.parametrize(
    ("graphs", "sentence"),
    [
        ("tests.graph.absent", "cannot import 'tests.graph.absent' of ROLLFORWARD_GRAPHS: ModuleNotFoundError"),
        ("tests.graph.broken", "cannot import 'tests.graph.broken' of ROLLFORWARD_GRAPHS"),
        ("tests.graph.tiny:absent", "the module has no function 'absent'"),
        ("tests.service.cli", "this worker has no graphs; list their modules in ROLLFORWARD_GRAPHS"),
        ("", "this worker has no graphs; list their modules in ROLLFORWARD_GRAPHS"),
    ],
)
def test_a_worker_without_its_graphs_ends_with_code_2_and_one_sentence(graphs, sentence, cli_of):
    ended = cli_of(graphs).run("worker")
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("rollforward: ")
    assert sentence in line
    assert ended.stdout == ""


def test_a_loglevel_that_there_is_not_is_refused(cli_of):
    ended = cli_of("tests.graph.tiny").run("worker", "--loglevel", "loud")
    assert ended.code == 2
    assert "'loud' is not one of" in ended.stderr


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_its_log_is_lines_of_json_with_time_run_index_and_reason(pool, cli_of, tmp_path, redis_server):
    cli = cli_of("tests.graph.tiny,tests.graph.plain")
    log = tmp_path / "worker.log"
    with cli.started("worker", "--pool", pool, "-c", "1", "-l", "info", stderr=log) as worker:
        fields = ["numbers=[1]", 'act="wait"', f'folder="{tmp_path}"']
        told = [part for one in fields for part in ("--set", one)]
        ended = cli.ok("run", "tests.graph.plain:limited", "--executor", "celery", *told, "-o", "json")
        wait_until(lambda: "only the end of its process" in log.read_text(), what="it is said")
        worker.terminate()
        worker.communicate(timeout=30)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(record["timestamp"] and record["level"] and record["event"] for record in records)
    (said,) = [record for record in records if "functions" in record]
    assert (said["run_id"], said["index"], said["level"]) == (ended.document["run_id"], 0, "warning")
    assert said["functions"] == ["tests.graph.plain:work"]


def test_what_the_pool_says_of_a_killed_child_is_in_the_same_log(cli_of, tmp_path):
    log = tmp_path / "worker.log"
    with cli_of("tests.graph.tiny").started("worker", "-c", "1", "-l", "info", stderr=log) as worker:
        wait_until(lambda: " ready." in log.read_text(), what="the worker is ready")
        (child,) = psutil.Process(worker.pid).children()
        child.kill()
        wait_until(lambda: "exited with" in log.read_text(), what="it is said")
        worker.terminate()
        worker.communicate(timeout=30)
    (said,) = [
        record for line in log.read_text().splitlines() if "exited with" in (record := json.loads(line))["event"]
    ]
    assert (said["level"], str(child.pid) in said["event"]) == ("error", True)


@pytest.mark.parametrize("verb", ["worker", "serve"])
def test_a_port_for_metrics_that_is_taken_is_refused_at_the_start(verb, redis_url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cli = CommandLine(
            tmp_path,
            {
                "ROLLFORWARD_REDIS_URL": redis_url,
                "ROLLFORWARD_GRAPHS": "tests.graph.tiny",
                "ROLLFORWARD_METRICS": str(port),
            },
        )
        ended = cli.run(verb)
    assert ended.code != 0
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("rollforward: ")]
    assert f"metrics cannot be served at 127.0.0.1:{port} (Address already in use)" in line
    assert "a port of its own in ROLLFORWARD_METRICS" in line


def test_metrics_at_a_free_port_are_where_the_log_says_and_those_of_users_with_them(cli_of, tmp_path):
    cli = cli_of("tests.graph.tiny,tests.graph.counted")
    chosen = CommandLine(tmp_path, {**cli.environment, "ROLLFORWARD_METRICS": "0", "TMPDIR": str(tmp_path)}, cli.mark)
    log = tmp_path / "worker.log"
    with chosen.started("worker", "-c", "1", stderr=log) as worker:
        wait_until(lambda: "metrics served" in log.read_text(), what="it says where", because=log.read_text)
        (said,) = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "metrics served"]
        with urllib.request.urlopen(said["url"], timeout=10) as answer:
            told = answer.read().decode()
        assert "rollforward_worker_slots{" in told
        assert "\nimported_total 1.0\n" in told
        worker.terminate()
        worker.communicate(timeout=30)
    assert not list(tmp_path.glob("rollforward-metrics-*"))
