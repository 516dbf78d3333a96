"""Two versions of a graph are deployed one after the other: their runs neither mix nor strand in silence."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.graph.rolling import AT_ONCE
from tests.service.crew import Crew
from tests.service.deployment import Command, Deployment
from tests.service.redis import RedisServer
from tests.service.worker import wait_until

GRAPH, SHARED = "tests.graph.rolling:graph", "tests.graph.rolling:shared"
COUNT = 5

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[tuple[Crew, Crew]]:
    """A deployment as those see it who have the old version, and as those who have the new one."""
    with ExitStack() as stack:
        redis = RedisServer(tmp_path / "redis").start()
        stack.callback(redis.stop)
        crews = []
        for version in ("1", "2"):
            environment = {"ROLLING_VERSION": version, "ROLLFORWARD_CODE_VERSION": version}
            url = f"sqlite:///{tmp_path}/state.db"
            deployment = Deployment(tmp_path, redis, url, graphs=["tests.graph.rolling"], environment=environment)
            stack.callback(deployment.close)
            crews.append(Crew(deployment, tmp_path / version))
            stack.callback(crews[-1].close)
        yield crews[0], crews[1]


def problems(crew: Crew, run_id: str) -> dict[str, str]:
    told = crew.deployment.command("status", run_id, "-o", "json")["problems"]
    return {problem["code"]: problem["message"] for problem in told}


def by_version(crew: Crew, run_id: str) -> dict[str | None, set[int]]:
    """The indexes of the instances that each version of the code did."""
    items = crew.items(run_id)
    return {
        version: {item["fan_out_index"] for item in items if item["code_version"] == version}
        for version in {item["code_version"] for item in items}
    }


def left(command: Command) -> None:
    """Have a command leave its run."""
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=30)
    assert command.returncode == 130


def test_a_run_goes_on_on_old_workers_while_new_ones_run_and_then_with_the_new_code_on_request(
    versions: tuple[Crew, Crew],
) -> None:
    old, new = versions
    last = old.start("old")
    command = old.run(COUNT, "one", graph=GRAPH)
    begun = old.until_begun(AT_ONCE + 2, "old")["old@test"]
    new.start("new", slots=4)
    another = new.run(COUNT, "two", graph=GRAPH)
    new.until_begun(COUNT - 2, "new")
    assert old.begun() == {"old@test": begun}
    assert problems(old, "one") == {}
    last.kill()
    wait_until(lambda: problems(new, "one"), what="it is said that nobody has the old version")
    said = problems(new, "one")["no_worker"]
    assert "No live worker has graph rolling (fingerprint " in said
    assert "stop what drives it, then `rollforward resume one --accept-code`" in said
    left(command)
    assert "no orchestrator drives it" in problems(new, "one")["no_orchestrator"]
    refused = new.deployment.begin("resume", "one")
    assert (refused.communicate(timeout=30), refused.returncode)[1] == 2
    resumed = new.deployment.begin("resume", "one", "--accept-code", "--progress", "none", "-o", "json")
    for crew in versions:
        crew.go()
    assert old.deployment.ended(resumed)["state"]["results"] == ["1"] * AT_ONCE + ["2, signed"] * (COUNT - AT_ONCE)
    assert new.deployment.ended(another)["state"]["results"] == ["2, signed"] * COUNT
    assert by_version(new, "one") == {"1": set(range(AT_ONCE)), "2": set(range(AT_ONCE, COUNT))}
    assert by_version(new, "two") == {"2": set(range(COUNT))}


def test_on_a_queue_that_both_consume_each_runs_its_own_and_declines_the_others(versions: tuple[Crew, Crew]) -> None:
    old, new = versions
    workers = [old.start("old"), new.start("new")]
    commands = [old.run(COUNT, "one", act="go", graph=SHARED), new.run(COUNT, "two", act="go", graph=SHARED)]
    results = [
        crew.deployment.ended(command)["state"]["results"] for crew, command in zip(versions, commands, strict=True)
    ]
    assert results == [["1"] * COUNT, ["2, signed"] * COUNT]
    assert old.begun() == {"old@test": set(range(COUNT))}
    assert new.begun() == {"new@test": set(range(COUNT))}
    assert any("instance declined" in worker.log.read_text() for worker in workers)
