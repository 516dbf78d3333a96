"""A worker that is alive and consumes nothing is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.crew import Crew, crew_of
from tests.service.proxy import Proxy
from tests.service.worker import WorkerProcess, wait_until
from workers.application import build_app
from workers.deafness import SHORTEST_SILENCE_SECONDS

RUN = "one"
MARGIN_SECONDS = 20


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    with crew_of(tmp_path, "tests.graph.tiny") as crew:
        yield crew


@pytest.fixture
def broker(crew: Crew) -> Iterator[Proxy]:
    with Proxy(crew.deployment.redis.port) as proxy:
        yield proxy


def named(crew: Crew) -> str:
    """What `status` says of a worker that consumes nothing."""
    problems = crew.deployment.command("status", RUN, "-o", "json")["problems"]
    return "".join(one["message"] for one in problems if one["code"] == "worker_consumes_nothing")


def test_a_worker_whose_broker_has_gone_silent_is_named_while_its_heartbeat_lives_and_no_more_when_it_is_heard(
    crew: Crew, broker: Proxy
) -> None:
    deaf = crew.start("deaf", environment={"CELERY_BROKER_URL": broker.redis_url})
    with broker.lost():
        wait_until(lambda: blocked(crew) == 0, what="nobody is given a message for what it asked before")
        command = crew.run(2, RUN, act="double")
        wait_until(lambda: crew.in_broker()[0] == 2, what="its messages wait")
        said = wait_until(lambda: named(crew), what="it is named", seconds=SHORTEST_SILENCE_SECONDS + MARGIN_SECONDS)
        assert said.startswith(f"{deaf.name} is alive and consumes nothing: it has heard nothing from the broker for ")
        assert crew.present() == [deaf.name]
        assert free(crew) == [0]
    assert crew.deployment.ended(command)["status"] == "succeeded"
    assert named(crew) == ""
    wait_until(lambda: free(crew) == [2], what="its places count again")


def test_a_worker_that_was_told_to_consume_no_more_is_named(crew: Crew) -> None:
    worker = crew.start("told", environment={"ROLLFORWARD_MONITORING": "1"})
    tell_to_consume_nothing(crew, worker)
    crew.run(2, RUN, act="double")
    wait_until(lambda: crew.in_broker()[0] == 2, what="its messages wait")
    said = wait_until(lambda: named(crew), what="it is named")
    assert said.startswith(f"{worker.name} is alive and consumes nothing: it ")


def blocked(crew: Crew) -> int:
    """How many wait in Redis for something to come."""
    with crew.deployment.redis.client() as client:
        return int(client.info("clients")["blocked_clients"])


def free(crew: Crew) -> list[int]:
    return [worker["free"] for worker in crew.announced()]


def tell_to_consume_nothing(crew: Crew, worker: WorkerProcess) -> None:
    app = build_app(crew.settings)
    (told,) = crew.announced()
    for queue in told["queues"]:
        app.control.cancel_consumer(queue, destination=[worker.name])
    app.close()
    wait_until(lambda: [one["queues"] for one in crew.announced()] == [[]], what="it consumes nothing")
