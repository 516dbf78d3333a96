"""Under `fail_fast` a failure reaches what runs on workers, and costs only what had not ended."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.deployment import Deployment
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, WorkerProcess

if TYPE_CHECKING:
    from workers.launch import Pool

pytestmark = pytest.mark.timeout(150)

MARGIN_SECONDS = 5.0
"""What a busy machine may take beside the heartbeat that brings the word."""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    redis = RedisServer(tmp_path / "redis").start()
    deployed = Deployment(tmp_path, redis, f"sqlite:///{tmp_path}/state.db", graphs=["tests.graph.stopping"])
    try:
        yield deployed
    finally:
        deployed.close()
        redis.stop()


@pytest.fixture(params=["prefork", "threads"])
def worker(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[WorkerProcess]:
    pool: Pool = request.param
    with WorkerProcess(
        deployment.folder,
        redis_url=deployment.redis.url,
        graphs=deployment.graphs,
        pool=pool,
        concurrency=3,
        environment=deployment.environment,
    ) as started:
        yield started


def said(deployment: Deployment) -> dict[str, float]:
    """When each instance said what for the last time."""
    lines = deployment.witness.read_text().splitlines()
    return {what: float(at) for what, at in (line.split() for line in lines)}


@pytest.mark.usefixtures("worker")
def test_what_runs_is_told_within_a_heartbeat_and_a_resume_runs_only_the_rest(deployment: Deployment) -> None:
    given = ("--set", "numbers=[0, 1, 2, 3, 4, 5, 6, 7]", "--run-id", "one", "--progress", "json", "-o", "json")
    command = deployment.begin("run", "tests.graph.stopping:graph", *given)
    out, err = command.communicate(timeout=90)
    assert command.returncode == 1, f"{out}\n{err}"
    assert json.loads(re.findall(r"^{.*}$", err, re.MULTILINE)[-1])["failed"] == 1
    first = said(deployment)
    for told in ("cancelled-2", "told-3"):
        assert first[told] - first["failed-1"] < HEARTBEAT_SECONDS + MARGIN_SECONDS
    assert deployment.recorded("one") == {0}
    assert not [what for what in first if what in {f"began-{number}" for number in (4, 5, 6, 7)}]
    states = [item["state"] for item in deployment.command("items", "one", "-o", "json")["items"]]
    assert states == ["succeeded", "failed", "cancelled", "cancelled", *["pending"] * 4]
    counts = deployment.command("status", "one", "-o", "json")["counts"]
    assert {state: count for state, count in counts.items() if count} == Counter(states)

    deployment.witness.rename(f"{deployment.witness}.before")
    Path(f"{deployment.witness}.mended").touch()
    ended = deployment.command("resume", "one", "--progress", "none", "-o", "json")
    assert ended["state"]["results"] == [number * 10 for number in range(8)]
    begun = {what for what in said(deployment) if what.startswith("began")}
    assert begun == {f"began-{number}" for number in range(1, 8)}


@pytest.mark.usefixtures("worker")
def test_the_failure_says_what_the_users_code_said(deployment: Deployment) -> None:
    given = ("--set", "numbers=[1, 2, 3]", "--run-id", "two", "--progress", "none", "-o", "json")
    command = deployment.begin("run", "tests.graph.stopping:graph", *given)
    command.communicate(timeout=90)
    (error,) = deployment.command("errors", "two", "-o", "json")["items"]
    assert (error["node"], error["message"], error["type"]) == ("all/first", "as planned", "ValueError")
    assert error["fan_out_index"] is not None
    assert "node 'all' failed: instance " in deployment.command("ls", "-o", "json")["items"][0]["error"]
