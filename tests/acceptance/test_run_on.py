"""Where nested fan-outs run: dispatched by the orchestrator they use every slot, and none waits for a slot it holds."""

import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from tests.service.deployment import Deployment
from tests.service.redis import RedisServer

pytestmark = pytest.mark.timeout(150)

SLOTS = 4


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    redis = RedisServer(tmp_path / "redis").start()
    deployed = Deployment(tmp_path, redis, f"sqlite:///{tmp_path}/state.db", graphs=["tests.graph.customers"])
    try:
        yield deployed
    finally:
        deployed.close()
        redis.stop()


def run(deployment: Deployment, graph: str, outer: int, inner: int) -> None:
    customers = [[row * inner + place for place in range(inner)] for row in range(outer)]
    file = deployment.folder / "input.json"
    file.write_text(json.dumps({"customers": customers}))
    given = ("--input", str(file), "--run-id", graph, "--progress", "none", "-o", "json")
    ended = deployment.command("run", f"tests.graph.customers:{graph}", *given)
    assert ended["state"]["lengths"] == [[number + 1 for number in row] for row in customers]


def most_at_once(deployment: Deployment) -> int:
    """How many documents were ever under way together."""
    return max(accumulate(step for step, _ in deployment.witnessed()))


def test_instances_of_many_outer_ones_use_every_slot(deployment: Deployment) -> None:
    deployment.worker(concurrency=SLOTS)
    run(deployment, "dispatched", 20, 100)
    begun = [pid for step, pid in deployment.witnessed() if step == 1]
    assert len(begun) == 2000
    assert len(set(begun)) == SLOTS
    assert most_at_once(deployment) == SLOTS
    assert deployment.command("verify", "dispatched", "-o", "json")["ok"] is True


@pytest.mark.parametrize("graph", ["dispatched", "inline"])
def test_a_nested_fan_out_ends_where_there_is_one_slot(deployment: Deployment, graph: str) -> None:
    deployment.worker(concurrency=1)
    run(deployment, graph, 3, 4)
    assert len({pid for _, pid in deployment.witnessed()}) == 1
    assert sum(step == 1 for step, _ in deployment.witnessed()) == 12
