"""Whatever is killed, nothing recorded runs again and the result is that of an undisturbed run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.deployment import Command, Deployment
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until

COUNT = 48
NUMBERS = list(range(COUNT))
SQUARES = [number**2 for number in NUMBERS if number % 10 != 3]
FAILED = [str(number) for number in NUMBERS if number % 10 == 3]
RUN = "killed"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    redis = RedisServer(tmp_path / "redis", fsync="always" if request.param == "redis" else "everysec").start()
    url = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/state.db",
        "postgresql": lambda: request.getfixturevalue("postgres_url"),
        "redis": lambda: redis.url,
    }[request.param]()
    deployed = Deployment(tmp_path, redis, url, graphs=["tests.graph.witnessed"])
    try:
        yield deployed
    finally:
        deployed.close()
        redis.stop()


def run(deployment: Deployment) -> Command:
    given = ("--set", f"numbers={NUMBERS}", "--run-id", RUN, "--progress", "none", "-o", "json")
    return deployment.begin("run", "tests.graph.witnessed:graph", *given)


def resume(deployment: Deployment) -> dict[str, Any]:
    return deployment.command("resume", RUN, "--progress", "none", "-o", "json")


def refused(worker: WorkerProcess) -> bool:
    """Whether a woken worker has been told: by its next beat, or by the report of what had ended meanwhile."""
    log = worker.log.read_text()
    return "report not taken" in log or "instance stopped by the ledger" in log


def assert_undisturbed(deployment: Deployment, ended: dict[str, Any], recorded: set[int]) -> None:
    """The result is that of an undisturbed run, and nothing of `recorded` has run again."""
    assert ended["status"] == "succeeded"
    assert ended["state"]["squares"] == SQUARES
    assert ended["state"]["total"] == sum(SQUARES)
    assert [error["fan_out_index"] for error in ended["state"]["errors"]] == FAILED
    proof = deployment.command("verify", RUN, "-o", "json")
    assert proof["ok"], proof
    executions = deployment.executions()
    assert set(executions) == set(NUMBERS)
    assert {index: executions[index] for index in recorded if executions[index] > 1} == {}


def test_a_pool_child_in_the_middle_of_an_instance(deployment: Deployment) -> None:
    deployment.worker()
    command = run(deployment)
    recorded = deployment.wait_until_recorded(RUN, COUNT // 4, command)
    before = len(deployment.witnessed())
    wait_until(lambda: len(deployment.witnessed()) > before, what="another instance begins")
    index, pid = deployment.witnessed()[-1]
    os.kill(pid, signal.SIGKILL)
    assert_undisturbed(deployment, deployment.ended(command), recorded)
    assert deployment.executions()[index] == 2, "the killed process was between two instances"
    (squares,) = deployment.command("status", RUN, "-o", "json")["fan_outs"]
    assert squares["losses"] == 1


def test_a_whole_worker_group(deployment: Deployment) -> None:
    victim = deployment.worker("victim")
    command = run(deployment)
    recorded = deployment.wait_until_recorded(RUN, COUNT // 4, command)
    victim.kill()
    deployment.worker("heir")
    assert_undisturbed(deployment, deployment.ended(command), recorded)


def test_the_orchestrator_halfway_and_then_resume(deployment: Deployment) -> None:
    deployment.worker()
    command = run(deployment)
    recorded = deployment.wait_until_recorded(RUN, COUNT // 2, command)
    command.kill()
    command.wait()
    assert_undisturbed(deployment, resume(deployment), recorded)


def test_the_orchestrator_and_the_workers_at_once(deployment: Deployment) -> None:
    victim = deployment.worker("victim")
    command = run(deployment)
    recorded = deployment.wait_until_recorded(RUN, COUNT // 2, command)
    command.kill()
    victim.kill()
    command.wait()
    deployment.worker("heir")
    assert_undisturbed(deployment, resume(deployment), recorded)


def test_redis_which_comes_back_on_its_append_only_file(deployment: Deployment) -> None:
    deployment.worker()
    command = run(deployment)
    recorded = deployment.wait_until_recorded(RUN, COUNT // 4, command)
    deployment.redis.kill()
    deployment.redis.start()
    assert_undisturbed(deployment, deployment.ended(command), recorded)


def test_a_worker_that_is_frozen_past_its_lease_loses_its_instances_and_is_refused_when_it_wakes(
    deployment: Deployment,
) -> None:
    frozen = deployment.worker("frozen")
    command = run(deployment)
    deployment.wait_until_recorded(RUN, COUNT // 4, command)
    stopped = [psutil.Process(pid) for pid in (frozen.pid, *frozen.children)]
    for process in stopped:
        process.suspend()
    recorded = deployment.recorded(RUN)
    deployment.worker("other")
    ended = deployment.ended(command)
    for process in stopped:
        process.resume()
    assert_undisturbed(deployment, ended, recorded)
    before = deployment.command("verify", RUN, "-o", "json")
    wait_until(lambda: refused(frozen), what="the woken worker's instances are stopped or their reports refused")
    assert deployment.command("verify", RUN, "-o", "json") == before
