"""A real Celery worker runs, reports, and dies."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import psutil
import pytest

from backends.ledgers.redis.orchestrator import RedisLedger
from orchestrator.bitmap import Bitmap
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.executor import Capacity, Hint
from orchestrator.identity import FanOutKey, Slot
from orchestrator.ledger.view import Opening, QueueAnswer, QueuedItem
from orchestrator.report import Outcome
from tests.graph import plain, tiny
from tests.service.worker import REPOSITORY, WorkerProcess, wait_until
from workers.configuration import queue_name
from workers.dispatch import CeleryExecutor
from workers.opening import open_worker_ledger
from workers.process import this_owner
from workers.settings import Settings
from workers.tasks import TASK_NAME

GRAPHS = ("tests.graph.tiny", "tests.graph.plain")
FAN_OUT = FanOutKey((), "pieces")
EPOCH = 1
LONG_LEASE = {"ROLLFORWARD_LEASE_SECONDS": "60"}
"""So long that whatever is freed in a test was freed by a worker's parent."""

runs = itertools.count()


class Desk:
    """The orchestrator's side of one fan-out of `tiny`, by hand."""

    def __init__(self, ledger, executor, registry, settings, module=tiny, graph=tiny.graph):
        self.ledger = ledger
        self.executor = executor
        self.registry = registry
        self.settings = settings
        self.module = module
        self.graph = graph
        self.run_id = f"run-{next(runs)}"

    def again(self):
        """Another run, at the same desk."""
        return Desk(self.ledger, self.executor, self.registry, self.settings, self.module, self.graph)

    async def open(self, count, *, act="double", folder=""):
        limit = self.graph.nodes["pieces"].time_limit
        briefing = Briefing(
            run_id=self.run_id,
            invocation_id=self.run_id,
            correlation_id=self.run_id,
            graph=self.graph.name,
            fingerprint=self.graph.fingerprint,
            fan_out=FAN_OUT,
            inputs=self.module.piece.codec.dump_fields({"act": act, "folder": str(folder)}),
            instance_count=count,
            max_result_bytes=5_000,
            time_limit_seconds=None if limit is None else limit.total_seconds(),
        ).to_json()
        opening = Opening(FAN_OUT.id, Bitmap(count), briefing, Briefing.hash_of(briefing))
        await self.ledger.open(self.run_id, EPOCH, opening)

    async def start(self, count, **options):
        await self.open(count, **options)
        items = [
            QueuedItem(Slot(FAN_OUT.id, index), self.module.piece.codec.dump_fields({"number": index}).encode())
            for index in range(count)
        ]
        answers = await self.ledger.queue(self.run_id, EPOCH, items, claim_deadline_seconds=30)
        assert set(answers) == {QueueAnswer.OK}
        await self.executor.dispatch([self.hint(index) for index in range(count)])

    def hint(self, index, **changes):
        facts = {
            "run_id": self.run_id,
            "fan_out": FAN_OUT.id,
            "index": index,
            "generation": 0,
            "graph": self.graph.name,
            "fingerprint": self.graph.fingerprint,
            "label": f"{self.graph.name}/pieces",
            "key": str(index),
        }
        return Hint(**{**facts, **changes})

    async def reports(self, count):
        async with asyncio.timeout(30):
            while len(found := await self.ledger.reports(self.run_id, [FAN_OUT.id], wait_seconds=1)) < count:
                pass
        return sorted(found, key=lambda report: report.slot.index)

    async def sweep_until(self, kind, *, count, seconds=30.0):
        async with asyncio.timeout(seconds):
            while True:
                slots = [Slot(FAN_OUT.id, index) for index in range(count)]
                found = getattr(await self.ledger.sweep(self.run_id, EPOCH, slots), kind)
                if len(found) == count:
                    return found
                await asyncio.sleep(0.02)

    def queue(self):
        return queue_name(self.settings.namespace, self.graph.name, self.graph.fingerprint)


@asynccontextmanager
async def a_desk(redis_url):
    settings = Settings(redis_url=redis_url, broker_url=redis_url)
    registry = open_worker_ledger(settings)
    ledger = RedisLedger(redis_url, namespace=settings.namespace)
    executor = CeleryExecutor(settings, registry)
    try:
        yield Desk(ledger, executor, registry, settings)
    finally:
        await executor.close()
        await ledger.close_connections()
        registry.close()


@pytest.fixture
async def desk(redis_url):
    async with a_desk(redis_url) as desk:
        yield desk


@pytest.fixture
async def limited_desk(redis_url):
    """A desk of a graph whose instances are plain functions with a time limit."""
    async with a_desk(redis_url) as desk:
        desk.module, desk.graph = plain, plain.limited
        yield desk


@pytest.fixture
def start_worker(redis_url, tmp_path):
    """Start a worker; whatever becomes of the test, it is gone afterwards."""
    started = []

    def start(**options):
        worker = WorkerProcess(tmp_path, redis_url=redis_url, graphs=GRAPHS, **options)
        started.append(worker)
        return worker.start()

    yield start
    for worker in started:
        worker.discard()


async def started_pids(folder, count):
    """The pids of those who have begun to wait for the file `go`."""
    await asyncio.to_thread(
        wait_until, lambda: len(list(folder.glob("started-*"))) == count, what=f"{count} instances begin"
    )
    found = list(folder.glob("started-*"))
    return [int(note.name.rpartition("-")[2]) for note in found]


def in_broker(redis_server, queue):
    """How many messages wait, and how many are held unacknowledged."""
    with redis_server.client() as client:
        return client.llen(f"rollforward:mq:{queue}"), client.zcard("rollforward:mq:unacked_index")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
async def test_what_is_queued_and_dispatched_is_run_and_reported(pool, desk, start_worker):
    worker = start_worker(pool=pool)
    await desk.start(10)
    reports = await desk.reports(10)
    assert [report.outcome for report in reports] == [Outcome.SUCCEEDED] * 10
    assert [json.loads(report.partial)["result"] for report in reports] == [str(2 * index) for index in range(10)]
    assert {report.worker for report in reports} == {worker.name}
    assert {report.delivery for report in reports} == {1}
    assert await asyncio.to_thread(worker.stop) == 0


async def test_every_message_is_acknowledged(desk, start_worker, redis_server):
    start_worker()
    await desk.start(5)
    await desk.reports(5)
    await asyncio.to_thread(wait_until, lambda: in_broker(redis_server, desk.queue()) == (0, 0), what="acknowledged")


async def test_a_hint_that_comes_twice_runs_once(desk, start_worker, redis_server):
    start_worker()
    await desk.start(3)
    await desk.executor.dispatch([desk.hint(index) for index in range(3)])
    reports = await desk.reports(3)
    await asyncio.to_thread(wait_until, lambda: in_broker(redis_server, desk.queue()) == (0, 0), what="acknowledged")
    assert {report.delivery for report in reports} == {1}


async def test_a_failed_instance_is_reported_and_shows_as_a_failed_task(desk, start_worker):
    worker = start_worker()
    await desk.start(1, act="fail")
    (report,) = await desk.reports(1)
    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert "item 0 is bad" in report.error.message
    await asyncio.to_thread(wait_until, lambda: "InstanceFailed" in worker.log.read_text(), what="a failed task")
    assert "item 0 is bad" not in worker.log.read_text()


async def test_a_result_over_the_limit_is_a_failed_instance(desk, start_worker):
    start_worker()
    await desk.start(1, act="large")
    (report,) = await desk.reports(1)
    assert report.error is not None
    assert report.error.category == "result_too_large"


async def test_a_killed_child_loses_its_lease_at_once(desk, start_worker, tmp_path):
    start_worker(environment=LONG_LEASE)
    await desk.start(1, act="wait", folder=tmp_path)
    (pid,) = await started_pids(tmp_path, 1)
    os.kill(pid, signal.SIGKILL)
    (lapse,) = await desk.sweep_until("lapsed", count=1, seconds=4)
    assert f":{pid}:" in lapse.owner
    assert lapse.delivery == 1
    assert lapse.alone


async def test_a_worker_that_was_killed_loses_its_leases_where_another_one_runs(desk, start_worker, tmp_path):
    killed = start_worker(name="killed", environment=LONG_LEASE)
    await desk.start(2, act="wait", folder=tmp_path)
    await started_pids(tmp_path, 2)
    start_worker(name="other", environment=LONG_LEASE)
    killed.kill()
    lapsed = await desk.sweep_until("lapsed", count=2, seconds=4)
    assert {"killed@test" in lapse.owner for lapse in lapsed} == {True}
    assert all(lapse.alone for lapse in lapsed)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
async def test_a_worker_that_stops_coldly_hands_back_what_it_has_and_nothing_is_to_blame(
    pool, desk, start_worker, tmp_path
):
    start_worker(name="other", environment={**LONG_LEASE, "ROLLFORWARD_GRAPHS": "tests.graph.plain"})
    worker = start_worker(pool=pool, environment={**LONG_LEASE, "ROLLFORWARD_SHUTDOWN_GRACE_SECONDS": "2"})
    await desk.start(1, act="wait", folder=tmp_path)
    await started_pids(tmp_path, 1)
    worker.signal(signal.SIGQUIT)
    (lapse,) = await desk.sweep_until("lapsed", count=1, seconds=10)
    assert not lapse.alone
    await asyncio.to_thread(worker.wait)
    assert [one["worker"] for one in desk.registry.workers()] == ["other@test"]


async def test_a_child_that_is_asked_to_end_hands_back_what_it_has(desk, start_worker, tmp_path):
    start_worker(concurrency=1, environment=LONG_LEASE)
    await desk.start(1, act="wait", folder=tmp_path)
    (pid,) = await started_pids(tmp_path, 1)
    os.kill(pid, signal.SIGTERM)
    (lapse,) = await desk.sweep_until("lapsed", count=1, seconds=10)
    assert (f":{pid}:" in lapse.owner, lapse.alone) == (True, False)


async def test_an_instance_past_the_hard_limit_is_to_blame(desk, start_worker, tmp_path):
    start_worker(concurrency=1, environment={**LONG_LEASE, "ROLLFORWARD_HARD_LIMIT_SECONDS": "3"})
    await desk.start(1, act="wait", folder=tmp_path)
    (pid,) = await started_pids(tmp_path, 1)
    (lapse,) = await desk.sweep_until("lapsed", count=1, seconds=15)
    assert (f":{pid}:" in lapse.owner, lapse.alone) == (True, True)


async def test_a_process_whose_plain_function_goes_on_past_its_limit_ends_after_its_report(
    limited_desk, start_worker, tmp_path, redis_server
):
    worker = start_worker(concurrency=1)
    await limited_desk.start(1, act="wait", folder=tmp_path)
    (pid,) = await started_pids(tmp_path, 1)
    (report,) = await limited_desk.reports(1)
    assert report.error is not None
    assert report.error.category == "instance_time_limit_exceeded"
    await asyncio.to_thread(wait_until, lambda: not psutil.pid_exists(pid), what="the process is gone", seconds=10)
    await asyncio.to_thread(
        wait_until, lambda: in_broker(redis_server, limited_desk.queue()) == (0, 0), what="acknowledged"
    )
    said = worker.log.read_text()
    assert "plain function goes on past its time limit" in said
    assert "WorkerLostError" not in said
    again = limited_desk.again()
    await again.start(2, act="double")
    assert [report.outcome for report in await again.reports(2)] == [Outcome.SUCCEEDED] * 2


@pytest.mark.parametrize("pool", ["threads", "solo"])
async def test_a_pool_without_processes_says_which_plain_function_goes_on(pool, limited_desk, start_worker, tmp_path):
    worker = start_worker(pool=pool)
    await limited_desk.start(1, act="wait", folder=tmp_path)
    await limited_desk.reports(1)
    await asyncio.to_thread(
        wait_until, lambda: "only the end of its process" in worker.log.read_text(), what="it is said"
    )
    again = limited_desk.again()
    await again.start(1, act="double")
    assert [report.outcome for report in await again.reports(1)] == [Outcome.SUCCEEDED]
    assert await asyncio.to_thread(worker.stop) == 0, "the function does not keep the worker alive"


async def test_a_worker_that_stops_warmly_takes_no_more_and_finishes_what_it_has(desk, start_worker, tmp_path):
    worker = start_worker(environment=LONG_LEASE)
    await desk.start(1, act="wait", folder=tmp_path)
    await started_pids(tmp_path, 1)
    worker.signal(signal.SIGTERM)
    await asyncio.to_thread(wait_until, lambda: not desk.registry.workers(), what="it withdraws", seconds=3)
    (tmp_path / "go").touch()
    (report,) = await desk.reports(1)
    assert report.outcome is Outcome.SUCCEEDED
    assert await asyncio.to_thread(worker.wait) == 0


async def test_an_instance_that_runs_longer_than_its_lease_keeps_it(desk, start_worker, tmp_path):
    worker = start_worker(environment={"ROLLFORWARD_LEASE_SECONDS": "1", "ROLLFORWARD_HEARTBEAT_SECONDS": "0.2"})
    await desk.start(1, act="block", folder=tmp_path)
    await started_pids(tmp_path, 1)
    claimed_at = time.monotonic()
    while time.monotonic() < claimed_at + 2.5:
        assert not (await desk.ledger.sweep(desk.run_id, EPOCH, [Slot(FAN_OUT.id, 0)])).lapsed
        await asyncio.sleep(0.05)
    (tmp_path / "go").touch()
    (report,) = await desk.reports(1)
    assert report.delivery == 1
    assert "_block" in worker.log.read_text(), "the loop that does not turn is named with its line"


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
async def test_a_cancelled_fan_out_stops_what_runs(pool, desk, start_worker, tmp_path):
    start_worker(pool=pool)
    await desk.start(1, act="wait", folder=tmp_path)
    await started_pids(tmp_path, 1)
    await desk.ledger.cancel(desk.run_id, EPOCH, fan_out=FAN_OUT.id)
    (report,) = await desk.reports(1)
    assert report.outcome is Outcome.CANCELLED


async def test_an_instance_that_was_given_to_another_is_stopped_and_its_report_dropped(desk, start_worker, tmp_path):
    worker = start_worker(environment={"ROLLFORWARD_HEARTBEAT_SECONDS": "0.5"})
    await desk.start(1, act="wait", folder=tmp_path)
    await started_pids(tmp_path, 1)
    (owner,) = desk.registry.owners(this_owner("anyone").place)
    desk.registry.release(owner, has_died=True)
    item = QueuedItem(Slot(FAN_OUT.id, 0), b"{}")
    assert await desk.ledger.queue(desk.run_id, EPOCH, [item], claim_deadline_seconds=30) == [QueueAnswer.OK]
    answer = desk.registry.claim(desk.run_id, [Slot(FAN_OUT.id, 0)], owner="me", token="mine", ttl_seconds=60)
    assert answer[0].claimed is not None
    await asyncio.to_thread(wait_until, lambda: "stopped by the ledger" in worker.log.read_text(), what="it stops")
    (tmp_path / "go").touch()
    assert await asyncio.to_thread(worker.stop) == 0
    assert await desk.ledger.reports(desk.run_id, [FAN_OUT.id], wait_seconds=0) == []


async def test_another_version_of_the_graph_is_declined(desk, start_worker):
    worker = start_worker()
    await desk.open(1)
    item = QueuedItem(Slot(FAN_OUT.id, 0), b"{}")
    await desk.ledger.queue(desk.run_id, EPOCH, [item], claim_deadline_seconds=30)
    await desk.executor.dispatch([desk.hint(0, fingerprint="0" * 16, queue=desk.queue())])
    (declined,) = await desk.sweep_until("declined", count=1)
    assert declined.worker == worker.name
    assert "0" * 16 in declined.reason


@pytest.mark.parametrize(
    "embed", [{}, {"callbacks": ["any"]}, {"errbacks": ["any"]}, {"chain": ["any"]}, {"chord": {"task": "any"}}]
)
async def test_a_message_that_is_not_ours_is_refused_and_acknowledged(embed, desk, start_worker, redis_server):
    worker = start_worker(pool="solo")
    await desk.start(1, act="double")
    await desk.reports(1)
    publish_by_hand(desk, "rubbish", embed)
    await asyncio.to_thread(wait_until, lambda: "MessageRefused" in worker.log.read_text(), what="refused")
    await asyncio.to_thread(wait_until, lambda: in_broker(redis_server, desk.queue()) == (0, 0), what="acknowledged")
    assert "Traceback" not in worker.log.read_text()


def publish_by_hand(desk, text, embed):
    """Publish as somebody would who can reach the broker."""
    app = desk.executor._app
    message = app.amqp.as_task_v2("an-id", TASK_NAME, args=(text,), **embed)
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        producer.publish(message.body, routing_key=desk.queue(), headers=message.headers, **message.properties)


async def test_a_worker_says_what_it_can_take(desk, start_worker, tmp_path):
    worker = start_worker(concurrency=3)
    (facts,) = desk.registry.workers()
    assert (facts["worker"], facts["pid"], facts["pool"]) == (worker.name, worker.pid, "prefork")
    assert (facts["slots"], facts["free"]) == (3, 3)
    assert [tiny.graph.name, tiny.graph.fingerprint] in facts["graphs"]
    assert desk.queue() in facts["queues"]
    await desk.start(2, act="wait", folder=tmp_path)
    await asyncio.to_thread(
        wait_until, lambda: [worker["free"] for worker in desk.registry.workers()] == [1], what="two places are taken"
    )
    assert await desk.executor.capacity(tiny.graph.name, tiny.graph.fingerprint) == Capacity(slots=3, free=1)
    assert await desk.executor.capacity(tiny.graph.name, "another") == Capacity(slots=0, free=0)
    (tmp_path / "go").touch()


@pytest.mark.parametrize(
    ("graphs", "sentence"),
    [
        ("tests.graph.absent", "cannot import 'tests.graph.absent' of ROLLFORWARD_GRAPHS"),
        ("", "this worker has no graphs"),
    ],
)
def test_a_worker_without_its_graphs_stops_with_one_sentence(graphs, sentence, redis_url, tmp_path):
    worker = WorkerProcess(
        tmp_path, redis_url=redis_url, graphs=GRAPHS, environment={"ROLLFORWARD_GRAPHS": graphs}
    ).start(wait=False)
    assert worker.wait() == 1
    said = [line for line in worker.log.read_text().splitlines() if line.strip()]
    assert len(said) == 1
    assert sentence in said[0]


def test_flower_finds_the_app_without_any_graph(redis_url):
    code = "import sys, workers.app; sys.exit('tests.graph.tiny' in sys.modules)"
    environment = {**os.environ, "ROLLFORWARD_REDIS_URL": redis_url, "ROLLFORWARD_GRAPHS": "tests.graph.tiny"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, check=True)


async def test_a_worker_of_given_settings_runs_without_any_in_the_environment(desk, redis_url, tmp_path):
    code = (
        "from workers.launch import run_worker; from workers.settings import Settings; "
        f"run_worker(Settings(redis_url={redis_url!r}, broker_url={redis_url!r}, graphs={GRAPHS!r}), "
        "concurrency=1, pool='prefork', name='given@test')"
    )
    worker = _python(code, tmp_path / "log")
    try:
        await desk.start(1)
        (report,) = await desk.reports(1)
        assert report.worker == "given@test"
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 20) == 0
    finally:
        worker.kill()
        worker.wait()


def _python(code, log_path):
    with log_path.open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=log, stderr=log)
