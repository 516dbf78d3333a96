"""The Procfile's three processes, as honcho starts them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.service.left_over import left_over
from tests.service.redis import RedisServer
from tests.service.worker import wait_until

ROOT = Path(__file__).parents[2]
MARK = "PROCFILE_TEST"


@pytest.fixture
def environment(redis_server: RedisServer, tmp_path: Path, unused_tcp_port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "CELERY_"))}
    return {
        **kept,
        MARK: str(tmp_path),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"])),
        "PYTHONPATH": str(ROOT),
        "ROLLFORWARD_REDIS_URL": redis_server.url,
        "ROLLFORWARD_CHECKPOINT_URL": f"sqlite:///{tmp_path}/state.db",
        "ROLLFORWARD_GRAPHS": "examples.word_count",
        "ROLLFORWARD_NAMESPACE": "procfile",
        "FLOWER_PORT": str(unused_tcp_port),
    }


def rollforward(*arguments: str, folder: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "rollforward", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.timeout(180)
def test_the_three_processes_run_a_submitted_graph_to_its_end(tmp_path: Path, environment: dict[str, str]) -> None:
    shutil.copy(ROOT / "Procfile", tmp_path)
    (tmp_path / "lines.txt").write_text("to be or not\nto be\n")
    command = [sys.executable, "-m", "honcho", "start"]
    log = tmp_path / "honcho.log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output) as honcho,
    ):
        try:
            submission = ("run", "examples.word_count:graph", "--items", "lines.txt", "--into", "lines", "--detach")
            rollforward(*submission, "--run-id", "words", folder=tmp_path, environment=environment)

            def has_succeeded() -> bool:
                status = rollforward("status", "words", "-o", "json", folder=tmp_path, environment=environment)
                return bool(json.loads(status)["status"] == "succeeded")

            wait_until(has_succeeded, what="the run succeeds", seconds=90, because=log.read_text)
            flower = f"http://127.0.0.1:{environment['FLOWER_PORT']}"
            wait_until(lambda: answers(f"{flower}/healthcheck"), what="Flower answers")
            verified = rollforward("verify", "words", "-o", "json", folder=tmp_path, environment=environment)
            assert json.loads(verified)["ok"]
            rollforward("doctor", folder=tmp_path, environment=environment)
        finally:
            honcho.send_signal(signal.SIGTERM)
            honcho.wait(timeout=60)
    assert left_over(MARK, str(tmp_path)) == [], log.read_text()
