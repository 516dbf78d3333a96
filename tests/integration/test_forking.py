"""A forked process is to a test what one is that was started."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.service.forking import Forked, can_be_forked, forked
from tests.service.worker import wait_until


def served(folder: Path, redis_url: str) -> dict[str, str]:
    """The environment of a server that goes on until it is ended."""
    settings = {
        "ROLLFORWARD_REDIS_URL": redis_url,
        "ROLLFORWARD_CHECKPOINT_URL": f"sqlite:///{folder}/state.db",
        "ROLLFORWARD_GRAPHS": "tests.graph.tiny",
    }
    return {**os.environ, **settings}


def serving(folder: Path, redis_url: str) -> Forked:
    return Forked("rollforward", ["serve"], folder=folder, environment=served(folder, redis_url))


def test_it_has_the_folder_the_environment_and_the_streams_that_it_was_given(tmp_path: Path) -> None:
    process = Forked(
        "rollforward",
        ["config", "-o", "json"],
        folder=tmp_path,
        environment={**os.environ, "ROLLFORWARD_NAMESPACE": "mine"},
    )
    out, err = process.communicate(30)
    assert (process.poll(), process.returncode, '"mine"' in out, err) == (0, 0, True, "")


def test_its_exit_code_and_what_it_said_are_told(tmp_path: Path) -> None:
    ended = forked(["status", "nobody"], folder=tmp_path, environment=os.environ, seconds=30)
    assert ended.code == 2
    assert ended.stderr
    assert ended.stdout == ""


def test_one_that_goes_on_is_seen_to_and_ends_by_the_signal_that_it_is_sent(tmp_path: Path, redis_url: str) -> None:
    process = serving(tmp_path, redis_url)
    try:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        assert psutil.Process(process.pid).cwd() == str(tmp_path)
    finally:
        process.kill()
    assert process.wait(10) == -signal.SIGKILL
    wait_until(lambda: not psutil.pid_exists(process.pid), what="it is reaped")
    process.communicate()


def test_a_command_that_does_not_end_in_time_is_ended(tmp_path: Path, redis_url: str) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forked(["serve"], folder=tmp_path, environment=served(tmp_path, redis_url), seconds=1.5)


def test_one_outlives_another_of_the_same_server(tmp_path: Path, redis_url: str) -> None:
    long, short = serving(tmp_path, redis_url), serving(tmp_path, redis_url)
    short.kill()
    assert short.wait(10) == -signal.SIGKILL
    assert long.poll() is None
    for process in (long, short):
        process.kill()
        process.communicate(10)


@pytest.mark.parametrize("variable", ["REMAP_SIGTERM", "ROLLFORWARD_CRASH", "LD_PRELOAD", "PYTHONPATH"])
def test_what_is_read_before_a_process_can_be_forked_keeps_it_from_being_forked(variable: str) -> None:
    assert can_be_forked(os.environ)
    assert not can_be_forked({**os.environ, variable: "another"})


def test_one_that_is_to_crash_is_not_forked_unseen(tmp_path: Path) -> None:
    environment = {**os.environ, "ROLLFORWARD_CRASH": "mid_commit"}
    with pytest.raises(AssertionError, match="would not crash"):
        Forked("rollforward", ["config"], folder=tmp_path, environment=environment)
    assert forked(["config"], folder=tmp_path, environment=environment, seconds=30).code == 0
