"""The `.rollforward/` folder and what its keeper does when things die in turn."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from rollforward.embedded.child import Child
from rollforward.embedded.deployment import Deployment, EmbeddedUnavailable
from rollforward.embedded.folder import Folder, FolderInUse
from rollforward.embedded.log_file import LogFile
from rollforward.embedded.redis_server import answers, make_socket_folder, socket_in
from tests.service.worker import wait_until

IDLE = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.create(tmp_path / ".rollforward")


@pytest.fixture
def deployment(folder: Folder) -> Iterator[Deployment]:
    with Deployment(folder, worker=IDLE, environment={}) as started:
        started.redis_url()
        wait_until(lambda: folder.processes.get("worker"), what="the worker is started")
        yield started


def process(folder: Folder, name: str) -> psutil.Process:
    return psutil.Process(folder.processes[name]["pid"])


def ask(path: str, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(command)
        return connection.recv(64)


def is_gone(one: psutil.Process) -> bool:
    return not one.is_running() or one.status() == psutil.STATUS_ZOMBIE


def test_the_folder_is_for_its_user_alone(folder):
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.redis_data.stat().st_mode & 0o777 == 0o700


def test_a_folder_is_held_by_one_at_a_time(folder):
    with folder.lock(), pytest.raises(FolderInUse, match=str(os.getpid())), Folder(folder.path).lock():
        pass
    with folder.lock():
        pass


def test_what_still_dies_of_an_ended_run_is_waited_for(folder):
    with folder.lock() as descriptor:
        dying = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"], pass_fds=(descriptor,))
    with folder.lock():
        assert dying.wait() == 0


def test_a_socket_path_is_short(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    made = make_socket_folder()
    assert len(str(socket_in(made))) < 100
    assert made.stat().st_mode & 0o777 == 0o700
    made.rmdir()


def test_redis_listens_on_its_socket_only(folder, deployment):
    url = deployment.redis_url()
    assert folder.live_redis_url == url
    assert answers(Path(url.removeprefix("unix://")))
    assert process(folder, "redis").net_connections(kind="inet") == []


@pytest.mark.parametrize("name", ["redis", "worker"])
def test_what_dies_is_started_again(folder, deployment, name):
    first = process(folder, name)
    first.kill()
    wait_until(lambda: folder.processes[name] and folder.processes[name]["pid"] != first.pid, what="another is there")
    wait_until(lambda: answers(Path(deployment.redis_url().removeprefix("unix://"))), what="Redis answers")
    assert deployment.failure() is None


def test_what_keeps_dying_is_given_up_with_its_last_words(folder):
    with Deployment(folder, worker=[sys.executable, "-c", "exit('no luck')"], environment={}) as deployment:
        deployment.redis_url()
        failure = wait_until(deployment.failure, what="the failure is told")
    assert "the worker keeps ending: no luck" in str(failure)


def test_a_worker_that_refuses_its_configuration_is_not_started_again(folder):
    code = "import sys; print('not so', flush=True); sys.exit(2)"
    (folder.logs / "worker.log").write_text("what an earlier run said\n")
    with Deployment(folder, worker=[sys.executable, "-c", code], environment={}) as deployment:
        failure = wait_until(deployment.failure, what="the failure is told")
    assert "not so" in str(failure)
    assert (folder.logs / "worker.log").read_text() == "what an earlier run said\nnot so\n"


def test_a_log_of_an_earlier_run_tells_nothing_of_this_one(folder):
    (folder.logs / "worker.log").write_text("what an earlier run said\n")
    log = LogFile(folder.logs / "worker.log")
    assert log.last_line() is None
    with log.path.open("a") as file:
        file.write("now\n\n")
    assert log.last_line() == "now"


def test_a_redis_that_does_not_start_says_why(folder, tmp_path, monkeypatch):
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\necho no room for data\nexit 1\n")
    binary.chmod(0o700)
    monkeypatch.setattr("rollforward.embedded.deployment.find_redis_server", lambda: binary)
    with (
        Deployment(folder, worker=IDLE, environment={}) as deployment,
        pytest.raises(EmbeddedUnavailable, match="no room for data"),
    ):
        deployment.redis_url()


def test_a_redis_that_cannot_read_its_data_says_so(folder):
    (folder.redis_data / "appendonly.aof").write_text("rubbish")
    with (
        Deployment(folder, worker=IDLE, environment={}) as deployment,
        pytest.raises(EmbeddedUnavailable, match="Bad file format"),
    ):
        deployment.redis_url()


def test_a_keeper_that_does_not_start_says_why(folder, tmp_path, monkeypatch):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    with (
        Deployment(folder, worker=IDLE, environment={}) as deployment,
        pytest.raises(EmbeddedUnavailable, match="in the way"),
    ):
        deployment.redis_url()


def test_a_killed_keeper_takes_everything_with_it(folder, deployment):
    parts = [process(folder, name) for name in ("redis", "worker")]
    process(folder, "keeper").kill()
    wait_until(lambda: all(is_gone(part) for part in parts), what="nothing is left")
    assert deployment.failure() == "its keeper was killed"


def test_leaving_ends_everything_and_removes_the_socket(folder):
    with Deployment(folder, worker=IDLE, environment={}) as deployment:
        path = Path(deployment.redis_url().removeprefix("unix://"))
        wait_until(lambda: folder.processes.get("worker"), what="the worker is started")
        parts = [process(folder, name) for name in ("keeper", "redis", "worker")]
    assert all(is_gone(part) for part in parts)
    assert not path.parent.exists()
    assert folder.live_redis_url is None


def test_a_worker_that_does_not_heed_sigterm_is_killed(folder):
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    with Deployment(folder, worker=[sys.executable, "-c", deaf], environment={}) as deployment:
        deployment.redis_url()
        log = folder.logs / "worker.log"
        wait_until(lambda: log.exists() and "deaf" in log.read_text(), what="the worker is deaf")
        worker = process(folder, "worker")
    assert is_gone(worker)


def test_the_data_outlives_a_kill_of_everything(folder):
    for expected in (b":1", b":2"):
        with Deployment(folder, worker=IDLE, environment={}) as deployment:
            path = deployment.redis_url().removeprefix("unix://")
            told = ask(path, b"INCR n\r\n")
            assert expected in told
            wait_until(lambda: folder.processes.get("worker"), what="the worker is started")
            for name in ("redis", "worker", "keeper"):
                process(folder, name).send_signal(signal.SIGKILL)


def test_without_a_redis_server_the_way_out_is_said(folder, monkeypatch):
    monkeypatch.setattr("rollforward.embedded.deployment.find_redis_server", lambda: None)
    with pytest.raises(EmbeddedUnavailable, match="--executor local"), Deployment(folder, worker=IDLE, environment={}):
        pass
    with folder.lock():
        pass


def test_a_child_that_is_ended_leaves_no_grandchild(tmp_path):
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('up', flush=True); time.sleep(600)"
    )
    child = Child("parent", [sys.executable, "-c", code], log=tmp_path / "log")
    child.start()
    wait_until(lambda: "up" in (tmp_path / "log").read_text(), what="the child is up")
    facts = child.facts
    assert facts is not None
    (grandchild,) = psutil.Process(facts["pid"]).children()
    child.end(timedelta(seconds=1))
    wait_until(lambda: is_gone(grandchild), what="the grandchild is gone")
