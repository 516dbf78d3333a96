"""What dies in the middle of an instance costs only what was not done inside it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.deployment import Command, Deployment
from tests.service.redis import RedisServer
from tests.service.worker import wait_until

GRAPHS = ("tests.graph.nested_witnessed", "tests.graph.durable_witnessed")
NUMBERS = [10, 11, 12, 14, 15, 16]
SQUARES = [number**2 for number in NUMBERS]
RUN = "nested"
ASKED = ("--progress", "none", "-o", "json")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    redis = RedisServer(tmp_path / "redis").start()
    url, slowly = f"sqlite:///{tmp_path}/state.db", {"WITNESS_SECONDS": "0.5"}
    deployed = Deployment(tmp_path, redis, url, graphs=GRAPHS, environment=slowly)
    try:
        yield deployed
    finally:
        deployed.close()
        redis.stop()


def begin_nested(deployment: Deployment) -> Command:
    return deployment.begin(
        "run", "tests.graph.nested_witnessed:graph", "--set", f"rows=[{NUMBERS}]", "--run-id", RUN, *ASKED
    )


def wait_until_recorded_inside(deployment: Deployment, count: int) -> set[int]:
    """Wait until so many nested instances are recorded, while the outer one is not."""
    wait_until(lambda: len(deployment.recorded(RUN, entry=1)) >= count, what=f"{count} nested ones are recorded")
    assert deployment.recorded(RUN) == set()
    return deployment.recorded(RUN, entry=1)


def test_a_pool_child_that_is_killed_in_a_nested_fan_out_costs_only_what_was_missing(deployment: Deployment) -> None:
    deployment.worker()
    command = begin_nested(deployment)
    wait_until(lambda: len(deployment.witnessed()) == 4, what="the fourth inner instance begins")
    os.kill(deployment.witnessed()[-1][1], signal.SIGKILL)
    assert deployment.ended(command)["state"]["squares"] == [SQUARES]
    executions = deployment.executions()
    # The third may have been on its way to the ledger when its process died.
    assert (executions[0], executions[1], executions[3]) == (1, 1, 2)
    assert executions[2] in (1, 2)
    assert (executions[4], executions[5]) == (1, 1)


def test_a_ledger_that_is_lost_in_a_nested_fan_out_costs_only_what_was_not_recorded(deployment: Deployment) -> None:
    deployment.worker()
    command = begin_nested(deployment)
    recorded = wait_until_recorded_inside(deployment, 2)
    with deployment.redis.client() as client:
        client.flushall()
    assert deployment.ended(command)["state"]["squares"] == [SQUARES]
    executions = deployment.executions()
    assert {index: executions[index] for index in recorded} == dict.fromkeys(recorded, 1)
    assert deployment.command("verify", RUN, "-o", "json")["ok"]


def test_a_deployment_that_is_lost_in_a_nested_fan_out_costs_only_what_was_not_recorded(
    deployment: Deployment,
) -> None:
    worker = deployment.worker()
    command = begin_nested(deployment)
    recorded = wait_until_recorded_inside(deployment, 2)
    command.kill()
    worker.kill()
    with deployment.redis.client() as client:
        client.flushall()
    deployment.worker("after")
    assert deployment.command("resume", RUN, *ASKED)["state"]["squares"] == [SQUARES]
    executions = deployment.executions()
    assert {index: executions[index] for index in recorded} == dict.fromkeys(recorded, 1)
    assert set(executions) == set(range(len(NUMBERS)))
    assert deployment.command("verify", RUN, "-o", "json")["ok"]


def test_a_durable_node_is_not_run_again_for_a_child_that_dies_after_it(deployment: Deployment) -> None:
    deployment.worker()
    command = deployment.begin(
        "run", "tests.graph.durable_witnessed:graph", "--set", "numbers=[1, 2]", "--run-id", RUN, *ASKED
    )
    wait_until(lambda: any(what > 100 for what, _ in deployment.witnessed()), what="an item has come to its store")
    what, pid = next((what, pid) for what, pid in deployment.witnessed() if what > 100)
    os.kill(pid, signal.SIGKILL)
    assert deployment.ended(command)["state"]["stored"] == [3, 5]
    executions = deployment.executions()
    assert (executions[1], executions[2], executions[what]) == (1, 1, 2)
