"""A broker apart from the ledger, which goes away in the middle of a run and comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.deployment import Deployment
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until

COUNT = 40

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "broker").start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def deployment(redis_server: RedisServer, redis_url: str, tmp_path: Path, broker: RedisServer) -> Iterator[Deployment]:
    assert redis_url
    url, added = f"sqlite:///{tmp_path}/state.db", {"ROLLFORWARD_BROKER_URL": broker.url}
    deployed = Deployment(tmp_path, redis_server, url, graphs=["tests.graph.witnessed"], environment=added)
    try:
        yield deployed
    finally:
        deployed.close()


def has_noticed(worker: WorkerProcess) -> bool:
    """Whether an acknowledgement could not be sent, or the connection was seen to be lost, whichever came first."""
    log = worker.log.read_text()
    return "Couldn't ack" in log or "Connection to broker lost" in log


def test_the_workers_go_on_when_it_is_back(deployment: Deployment, broker: RedisServer) -> None:
    worker = deployment.worker()
    numbers = f"numbers={list(range(COUNT))}"
    given = ("--set", numbers, "--run-id", "r", "--progress", "none", "-o", "json")
    command = deployment.begin("run", "tests.graph.witnessed:graph", *given)
    deployment.wait_until_recorded("r", 4, command)
    broker.kill()
    wait_until(lambda: has_noticed(worker), what="the worker notices that the broker is away")
    broker.start()
    ended = deployment.ended(command)
    assert ended["state"]["squares"] == [number**2 for number in range(COUNT) if number % 10 != 3]
    assert deployment.command("verify", "r", "-o", "json")["ok"]
