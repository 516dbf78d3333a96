"""What a Prometheus reads from a server and a worker, while instances run and processes are killed."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.metrics.metric import METRICS_OF_ORCHESTRATORS, METRICS_OF_WORKER_PROCESSES, METRICS_OF_WORKERS
from tests.service.cli import CommandLine
from tests.service.crew import GRAPH, Crew
from tests.service.deployment import Deployment
from tests.service.redis import RedisServer
from tests.service.scraping import Scrape, scrape
from tests.service.worker import WorkerProcess, wait_until

GRAPHS = ["tests.graph.tiny"]
COUNT = 200
OF_WORKERS = (*METRICS_OF_WORKER_PROCESSES, *METRICS_OF_WORKERS)
PLACE = {"graph": "tiny", "fan_out": "pieces"}

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True, slots=True)
class Scene:
    """A server and a worker of two processes, each with its metrics at a port of its own."""

    crew: Crew
    worker: WorkerProcess
    ports: tuple[int, int]

    @property
    def server(self) -> Scrape:
        return scrape(self.ports[0])

    @property
    def of_worker(self) -> Scrape:
        return scrape(self.ports[1])

    def submit(self, count: int, run_id: str, *, act: str) -> None:
        fields = [f"numbers={list(range(count))}", f'act="{act}"', f'folder="{self.crew.folder}"']
        given = [part for one in fields for part in ("--set", one)]
        self.crew.deployment.command("run", GRAPH, "--run-id", run_id, *given, "--detach", "-o", "json")

    def until_counted(self, *expected: float) -> None:
        """Wait until the worker has counted so much: it does so after it has reported."""
        wait_until(lambda: counts(self.of_worker) == expected, what=f"the worker counts {expected}", seconds=10)

    def until_ended(self, count: int) -> None:
        def ended() -> bool:
            return self.server.value("rollforward_runs_ended_total", outcome="succeeded") == count

        wait_until(ended, what=f"{count} runs have succeeded", because=self.crew.words)


@pytest.fixture
def scene(
    redis_server: RedisServer, redis_url: str, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[Scene]:
    assert redis_url
    ports = unused_tcp_port_factory(), unused_tcp_port_factory()
    with ExitStack() as stack:
        deployment = Deployment(tmp_path, redis_server, f"sqlite:///{tmp_path}/state.db", graphs=GRAPHS)
        stack.callback(deployment.close)
        crew = Crew(deployment, tmp_path / "notes")
        stack.callback(crew.close)
        served, counted = ({"ROLLFORWARD_METRICS": str(port), "TMPDIR": str(tmp_path)} for port in ports)
        cli = CommandLine(tmp_path, {**deployment.environment, **served})
        log = tmp_path / "serve.log"
        stack.enter_context(cli.started("serve", stderr=log))
        worker = crew.start("counted", environment=counted)
        wait_until(lambda: '"serving"' in log.read_text(), what="the server serves", because=log.read_text)
        yield Scene(crew, worker, ports)


def test_every_instance_is_counted_once_also_when_a_process_is_killed(scene: Scene) -> None:
    scene.submit(COUNT, "all", act="double")
    scene.until_ended(1)
    assert recorded(scene.server) == (COUNT, COUNT, COUNT, 0, 0)
    scene.until_counted(COUNT, COUNT, 0)
    scene.submit(2, "one-lost", act="wait")
    scene.crew.until_begun(2, "counted")
    scene.until_counted(COUNT + 2, COUNT, 2)
    assert scene.server.value("rollforward_instances_outstanding", **PLACE) == 2
    wait_until(lambda: scene.server.value("rollforward_instances_live", state="running") == 2, what="both are seen")
    os.kill(scene.worker.children[0], signal.SIGKILL)
    wait_until(lambda: scene.server.value("rollforward_deliveries_lost_total", **PLACE) == 1, what="the loss is seen")
    scene.crew.go()
    scene.until_ended(2)
    assert recorded(scene.server) == (COUNT + 2, COUNT + 2, COUNT + 2, 1, 0)
    # The delivery that was lost was claimed and not reported; what it held is not held any more.
    scene.until_counted(COUNT + 3, COUNT + 2, 0)
    assert scene.server.value("rollforward_record_batch_instances_sum") == COUNT + 2
    assert scene.server.value("rollforward_instances_live") == 0
    assert scene.server.value("rollforward_runs_driven") == 0
    assert scene.of_worker.value("rollforward_worker_slots", worker="counted@test") == 2
    assert scene.server.families == {metric.name for metric in METRICS_OF_ORCHESTRATORS}
    assert scene.of_worker.families == {metric.name for metric in OF_WORKERS}
    assert not [name for name, _ in (*scene.server.values, *scene.of_worker.values) if name.endswith("_created")]
    scene.worker.stop()
    assert not list(scene.crew.deployment.folder.glob("rollforward-metrics-*"))


def test_a_worker_of_threads_counts_as_well(
    redis_server: RedisServer, redis_url: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    assert redis_url
    deployment = Deployment(tmp_path, redis_server, f"sqlite:///{tmp_path}/state.db", graphs=GRAPHS)
    crew = Crew(deployment, tmp_path / "notes")
    try:
        counted = {"ROLLFORWARD_METRICS": str(unused_tcp_port), "TMPDIR": str(tmp_path)}
        crew.start("threads", pool="threads", environment=counted)
        deployment.ended(crew.run(5, "five", act="double"))
        wait_until(lambda: counts(scrape(unused_tcp_port)) == (5, 5, 0), what="all are counted", because=crew.words)
    finally:
        crew.close()
        deployment.close()


def recorded(seen: Scrape) -> tuple[float, ...]:
    """How many were queued, recorded, and timed; how many were queued again, and how many are in flight."""
    return (
        seen.value("rollforward_instances_queued_total", **PLACE),
        seen.value("rollforward_instances_recorded_total", **PLACE, outcome="succeeded"),
        seen.value("rollforward_instance_duration_seconds_count", **PLACE),
        seen.value("rollforward_instances_requeued_total", **PLACE),
        seen.value("rollforward_instances_outstanding", **PLACE),
    )


def counts(seen: Scrape) -> tuple[float, ...]:
    """How many were claimed and how many reports were taken; how many are held."""
    return (
        seen.value("rollforward_worker_deliveries_total", graph="tiny"),
        seen.value("rollforward_worker_reports_total", answer="ok"),
        seen.value("rollforward_worker_leases"),
    )
