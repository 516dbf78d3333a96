"""An embedded run needs nothing, survives whatever is killed, and leaves no process behind."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from tests.service.cli import CommandLine
from tests.service.worker import wait_until

GRAPH = "tests.graph.tiny:graph"
COUNT = 6


def waiting(folder: Path, *more: str, executor: str = "celery") -> tuple[str, ...]:
    """A run whose instances wait for the file `go`, and leave a note when they start."""
    numbers = list(range(COUNT))
    fields = [f"numbers={numbers}", 'act="wait"', f'folder="{folder}"']
    return ("run", GRAPH, "--executor", executor, *(part for one in fields for part in ("--set", one)), *more)


def started_instances(folder: Path) -> list[Path]:
    return list(folder.glob("started-*"))


@contextmanager
def waiting_run(cli: CommandLine, *more: str, executor: str = "celery") -> Iterator[Popen[str]]:
    """A run that is under way: its first instances have started."""
    with cli.started(*waiting(cli.folder, "--run-id", "one", *more, executor=executor)) as process:
        wait_until(lambda: started_instances(cli.folder), what="an instance starts")
        yield process


def go_on(cli: CommandLine) -> list[str]:
    """Let the instances end, and give the results of the resumed run."""
    (cli.folder / "go").touch()
    document = cli.ok("resume", "one", "-o", "json").document
    assert document["status"] == "succeeded"
    results: list[str] = document["state"]["results"]
    return results


def assert_adds_up(cli: CommandLine) -> None:
    document = cli.ok("verify", "one", "-o", "json").document
    assert document["ok"]
    assert document["fan_outs"][0]["recorded"] == COUNT


def part(cli: CommandLine, *words: str) -> psutil.Process:
    """The first process whose command line has these words."""
    found = [process for process in cli.processes() if set(words) <= set(process.info["cmdline"])]
    return min(found, key=lambda process: process.info["create_time"])


def keeper(cli: CommandLine) -> psutil.Process:
    return part(cli, "rollforward.embedded.keeper")


def worker(cli: CommandLine) -> psutil.Process:
    return part(cli, "rollforward", "worker")


def redis(cli: CommandLine) -> psutil.Process:
    return next(process for process in cli.processes() if "redis-server" in " ".join(process.info["cmdline"]))


def test_a_run_needs_nothing_and_leaves_nothing_running(cli):
    ended = cli.ok("run", GRAPH, "--set", "numbers=[1, 2, 3]", "--workers", "2", "-o", "json")
    assert ended.document["status"] == "succeeded"
    assert ended.document["state"]["results"] == ["2", "4", "6"]
    assert ended.document["run_id"] == ended.document["invocation_id"]
    assert cli.processes() == []
    assert (cli.folder / ".rollforward").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("executor", ["celery", "local"])
def test_a_signal_stops_the_run_cleanly_and_says_how_to_go_on(cli, number, code, executor):
    with waiting_run(cli, executor=executor) as process:
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert stdout == ""
    assert "rollforward resume one" in stderr
    assert "Traceback" not in stderr
    assert cli.processes() == []
    assert len(go_on(cli)) == COUNT
    assert_adds_up(cli)


def test_ctrl_c_of_a_terminal_reaches_the_parent_only(cli):
    with waiting_run(cli) as process:
        assert os.getsid(keeper(cli).pid) != os.getsid(process.pid)
        assert os.getpgid(worker(cli).pid) != os.getpgid(process.pid)
        assert os.getpgid(redis(cli).pid) != os.getpgid(process.pid)


@pytest.mark.parametrize("victim", [keeper, worker, redis, None], ids=["keeper", "worker", "redis", "parent"])
def test_after_sigkill_of_any_part_and_the_parent_nothing_is_left_and_the_run_goes_on(
    cli, victim: Callable[[CommandLine], psutil.Process] | None
):
    with waiting_run(cli) as process:
        if victim is not None:
            victim(cli).kill()
        process.kill()
        process.wait()
        cli.wait_until_gone()
    assert len(go_on(cli)) == COUNT
    assert_adds_up(cli)


def test_resume_may_come_right_after_the_kill(cli):
    with waiting_run(cli) as process:
        process.kill()
        process.wait()
    assert len(go_on(cli)) == COUNT
    assert_adds_up(cli)


@pytest.mark.parametrize("victim", [worker, redis])
def test_a_run_outlives_its_worker_and_its_redis(cli, victim):
    with waiting_run(cli) as process:
        (cli.folder / "go").touch()
        victim(cli).kill()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert_adds_up(cli)


def test_a_run_whose_keeper_was_killed_says_so_and_can_be_resumed(cli):
    with waiting_run(cli) as process:
        keeper(cli).kill()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 69
    assert "keeper was killed" in stderr
    assert "rollforward resume one" in stderr
    cli.wait_until_gone()
    assert len(go_on(cli)) == COUNT


@pytest.mark.parametrize("executor", ["celery", "local"])
def test_a_second_embedded_run_in_the_folder_is_refused(cli, executor):
    with waiting_run(cli):
        ended = cli.run("run", GRAPH, "--executor", executor)
        assert ended.code == 2
        (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("rollforward:")]
        assert "is in use by an embedded run" in sentence


def test_a_second_driver_of_a_live_run_is_refused(cli):
    with waiting_run(cli):
        ended = cli.run("resume", "one")
        assert ended.code == 2
        assert "is being driven by" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_what_goes_on_can_be_watched_from_beside(cli):
    with waiting_run(cli, "--workers", "2"):
        wait_until(lambda: len(started_instances(cli.folder)) == 2, what="both places are taken")
        status = cli.ok("status", "one", "-o", "json").document
        items = cli.ok("items", "one", "-o", "jsonl").lines
        running = cli.ok("items", "one", "-o", "jsonl", "--state", "running").lines
    assert status["counts"]["running"] == 2
    assert sum(status["counts"].values()) == status["total"] == COUNT
    assert status["problems"] == []
    assert [item["fan_out_index"] for item in items] == list(range(COUNT))
    assert [item["state"] for item in items] == ["running"] * 2 + ["queued"] * (COUNT - 2)
    assert [item["delivery_attempt"] for item in running] == [1, 1]
    assert all(item["worker"] for item in running)


def test_looking_on_loses_nothing_of_what_is_recorded(cli):
    with waiting_run(cli) as process:
        wait_until(lambda: cli.ok("status", "one", "-o", "json").document["counts"]["running"], what="something runs")
        (cli.folder / "go").touch()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert cli.ok("status", "one", "-o", "json").document["status"] == "succeeded"
    assert_adds_up(cli)


def test_a_cancelled_run_stops_within_seconds(cli):
    with waiting_run(cli) as process:
        cli.ok("cancel", "one")
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "was cancelled" in stderr
    assert cli.ok("status", "one", "-o", "json").document["status"] == "cancelled"
    assert cli.run("resume", "one").code == 4


def test_a_worker_that_cannot_start_is_said_with_its_last_words(cli):
    (cli.folder / "only_here.py").write_text(
        "import os\nassert 'ROLLFORWARD_REDIS_URL' not in os.environ, 'not in a worker'\n"
        "from tests.graph.tiny import graph\n"
    )
    ended = cli.run("run", "only_here:graph", "--set", "numbers=[1]")
    assert ended.code == 69
    assert "the worker keeps ending" in ended.stderr
    assert "not in a worker" in ended.stderr
    assert cli.ok("ls", "-o", "json").document["items"] == []
    assert cli.processes() == []
