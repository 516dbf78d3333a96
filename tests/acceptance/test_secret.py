"""A worker whose secret is not that of the orchestrator: it refuses every message, and `status` says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.deployment import Deployment
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until


@pytest.fixture
def deployment(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> Iterator[Deployment]:
    assert redis_url
    deployed = Deployment(tmp_path, redis_server, f"sqlite:///{tmp_path}/state.db", graphs=["tests.graph.witnessed"])
    try:
        yield deployed
    finally:
        deployed.close()


def test_a_worker_with_another_secret_is_named_in_the_status(deployment: Deployment, tmp_path: Path) -> None:
    environment = {**deployment.environment, "ROLLFORWARD_SECRET": "another"}
    graphs, url = deployment.graphs, deployment.redis.url
    with WorkerProcess(tmp_path, redis_url=url, graphs=graphs, name="stranger", environment=environment):
        command = deployment.begin("run", "tests.graph.witnessed:graph", "--set", "numbers=[1,2]", "--run-id", "r")

        def problems() -> list[str]:
            status = deployment.command("status", "r", "-o", "json")
            return [one["message"] for one in status["problems"] if one["code"] == "messages_refused"]

        wait_until(lambda: "message refused" in (tmp_path / "stranger.log").read_text(), what="a message is refused")
        [message] = wait_until(problems, what="the status says so")
        command.kill()
    assert "stranger@test refused messages" in message
    assert "ROLLFORWARD_SECRET" in message
    assert deployment.executions() == {}
