"""A worker that dies inside a nested fan-out costs only the inner instances that were not done."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.deployment import Deployment
from tests.service.redis import RedisServer
from tests.service.worker import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    redis = RedisServer(tmp_path / "redis").start()
    deployed = Deployment(tmp_path, redis, f"sqlite:///{tmp_path}/state.db", graphs=["tests.graph.nested_witnessed"])
    try:
        yield deployed
    finally:
        deployed.close()
        redis.stop()


def test_a_pool_child_that_is_killed_in_a_nested_fan_out_costs_only_what_was_missing(deployment: Deployment) -> None:
    deployment.worker()
    given = ("--set", "rows=[[10, 11, 12, 14, 15]]", "--run-id", "nested", "--progress", "none", "-o", "json")
    command = deployment.begin("run", "tests.graph.nested_witnessed:graph", *given)
    wait_until(lambda: len(deployment.witnessed()) == 4, what="the fourth inner instance begins")
    os.kill(deployment.witnessed()[-1][1], signal.SIGKILL)
    ended = deployment.ended(command)
    assert ended["state"]["squares"] == [[100, 121, 144, 196, 225]]
    executions = deployment.executions()
    # The third may have been on its way to the ledger when its process died.
    assert (executions[0], executions[1], executions[3], executions[4]) == (1, 1, 2, 1)
    assert executions[2] in (1, 2)
