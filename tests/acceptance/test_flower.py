"""What people see of a run in Flower: every instance by name, place and state, and nothing of its content."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.service.crew import Crew
from tests.service.deployment import Deployment
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY, wait_until

SECRET = "an-item-that-nobody-else-may-read"
FILES = {"good.py": f"def f():\n    return {SECRET!r}\n", "bad.py": f"def f(:  # {SECRET}\n", "empty.py": ""}

pytestmark = pytest.mark.timeout(120)


class Flower:
    """A real Flower, and its API."""

    def __init__(self, deployment: Deployment, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "flower", "--address=127.0.0.1"]
        with (deployment.folder / "flower.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--port={port}", "--enable_events=False"],
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**deployment.environment, "FLOWER_UNAUTHENTICATED_API": "true"},
            )

    def get(self, path: str) -> Any:
        """What the API answers; None while it does not."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=5) as response:
                return json.loads(response.read())
        except (URLError, ConnectionError, TimeoutError):
            return None

    def page(self, path: str) -> str:
        with urllib.request.urlopen(self._url + path, timeout=5) as response:
            text: str = response.read().decode()
            return text

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


@pytest.fixture
def deployment(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> Iterator[Deployment]:
    assert redis_url
    sources = tmp_path / "sources"
    sources.mkdir()
    for name, text in FILES.items():
        (sources / name).write_text(text)
    added = {"ROLLFORWARD_MONITORING": "1", "ROLLFORWARD_SECRET": "s3cret"}
    url = f"sqlite:///{tmp_path}/state.db"
    deployed = Deployment(
        tmp_path, redis_server, url, graphs=["examples.stdlib_audit", "tests.graph.tiny"], environment=added
    )
    try:
        yield deployed
    finally:
        deployed.close()


@pytest.fixture
def flower(deployment: Deployment, unused_tcp_port: int) -> Iterator[Flower]:
    started = Flower(deployment, unused_tcp_port)
    try:
        yield started
    finally:
        started.stop()


def test_every_instance_is_a_task_with_a_name_a_place_and_a_state(deployment: Deployment, flower: Flower) -> None:
    worker = deployment.worker("seen")
    wait_until(lambda: worker.name in (flower.get("/api/workers?refresh=1") or {}), what="Flower sees the worker")
    folder = json.dumps(str(deployment.folder / "sources"))
    given = ("--set", f"folder={folder}", "--run-id", "audit", "--progress", "none", "-o", "json")
    ended = deployment.command("run", "examples.stdlib_audit:graph", *given)
    assert ended["status"] == "succeeded"

    def finished() -> dict[str, Any] | None:
        tasks: dict[str, Any] = flower.get("/api/tasks?limit=100") or {}
        states = [task["state"] for task in tasks.values()]
        return tasks if len(states) == len(FILES) and set(states) <= {"SUCCESS", "FAILURE"} else None

    tasks = wait_until(finished, what="Flower has seen every instance end") or {}
    assert {task["name"] for task in tasks.values()} == {"stdlib-audit/files"}
    assert sorted((task["args"], task["state"]) for task in tasks.values()) == [
        ("index=0 key=bad.py", "FAILURE"),
        ("index=1 key=empty.py", "SUCCESS"),
        ("index=2 key=good.py", "SUCCESS"),
    ]
    assert {task["worker"] for task in tasks.values()} == {worker.name}
    told = {task_id: flower.get(f"/api/task/info/{task_id}") for task_id in tasks}
    (failed,) = [one for one in told.values() if one["state"] == "FAILURE"]
    # The kind of error and no more: what it says may hold what the item holds.
    assert failed["exception"] == "InstanceFailed('instance 0 failed: source_unparsable')"
    assert "SyntaxError" not in failed["traceback"]
    shown = [flower.page(f"/task/{task_id}") for task_id in tasks] + [json.dumps(told), *everything(flower)]
    for text in (SECRET, "s3cret", os.fspath(deployment.folder / "sources")):
        assert not any(text in page for page in shown), text


def test_a_run_is_seen_while_it_goes_on(deployment: Deployment, flower: Flower) -> None:
    workers = {deployment.worker(name, concurrency=1).name for name in ("one", "two")}
    wait_until(lambda: flower.get("/api/workers?status=1") == dict.fromkeys(workers, True), what="both are online")
    notes = deployment.folder / "notes"
    crew = Crew(deployment, notes)
    run = crew.run(4, "seen", act="wait")
    seen = wait_until(lambda: begun(flower, 2), what="Flower sees what runs") or []
    assert [task["name"] for task in seen] == ["tiny/pieces"] * 2
    assert {task["worker"] for task in seen} == workers
    assert sorted(task["args"] for task in seen) == ["index=0 key=0", "index=1 key=1"]
    assert not [page for page in everything(flower) if os.fspath(notes) in page or "s3cret" in page]
    crew.go()
    assert deployment.ended(run)["status"] == "succeeded"


def begun(flower: Flower, count: int) -> list[dict[str, Any]] | None:
    """The instances that Flower sees running, where they are so many."""
    tasks: dict[str, Any] = flower.get("/api/tasks?state=STARTED") or {}
    return list(tasks.values()) if len(tasks) == count else None


def everything(flower: Flower) -> list[str]:
    """What its API and its pages tell of workers, tasks and queues."""
    answers = [flower.get(f"/api/{path}") for path in ("workers?refresh=1", "tasks", "task/types", "queues/length")]
    assert all(answer is not None for answer in answers)
    pages = [flower.page(path) for path in ("/", "/workers", "/tasks", "/broker")]
    return [*map(json.dumps, answers), *pages, *(flower.page(f"/worker/{name}") for name in answers[0])]
