"""Instances of two runs in one worker process, and who is charged when it dies."""

import asyncio
import os
import signal

import pytest
import redis

from orchestrator.identity import Slot
from orchestrator.ledger.claim import SUSPECT_AFTER
from orchestrator.ledger.view import LiveState, QueuedItem
from orchestrator.report import Outcome
from tests.integration.test_worker import EPOCH, FAN_OUT, LONG_LEASE, a_desk, in_broker, started_pids
from tests.service.worker import WorkerProcess, wait_until


@pytest.fixture
async def desk(redis_url):
    async with a_desk(redis_url) as made:
        yield made


@pytest.fixture
def start_worker(redis_url, tmp_path):
    started = []

    def start(name="worker", **options):
        graphs = ("tests.graph.tiny",)
        worker = WorkerProcess(tmp_path, redis_url=redis_url, graphs=graphs, pool="threads", name=name, **options)
        started.append(worker)
        return worker.start()

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture(params=["released", "ended"])
def kill(request, start_worker):
    """Kills the process of a worker; its leases are released by another one of its host, or end by themselves."""

    def of(pid):
        os.kill(pid, signal.SIGKILL)
        if request.param == "released":
            start_worker("other", environment={**LONG_LEASE, "ROLLFORWARD_GRAPHS": "tests.graph.plain"})

    return of


async def begun(desk, folder, count=1):
    """A run whose instances wait in that folder, and the pid of the process that runs them."""
    folder.mkdir()
    await desk.start(count, act="wait", folder=folder)
    (pid,) = set(await started_pids(folder, count))
    return pid


async def test_a_run_whose_neighbour_kills_their_process_is_not_charged_whoever_came_first(
    desk, start_worker, tmp_path, kill
):
    start_worker(concurrency=2)
    first, second = desk, desk.again()
    pid = await begun(first, tmp_path / "first")
    assert await begun(second, tmp_path / "second") == pid
    await asyncio.to_thread(kill, pid)
    for one in (first, second):
        (lapse,) = await one.sweep_until("lapsed", count=1, seconds=10)
        assert (f":{pid}:" in lapse.owner, lapse.alone) == (True, False)


async def test_a_neighbour_that_is_left_alone_again_is_charged_when_it_kills(desk, start_worker, tmp_path, kill):
    start_worker(concurrency=2)
    first, second = desk, desk.again()
    pid = await begun(first, tmp_path / "first")
    await begun(second, tmp_path / "second")
    (tmp_path / "first" / "go").touch()
    await first.reports(1)
    await asyncio.to_thread(wait_until, lambda: not _is_in_company(desk, second), what="a beat says so")
    await asyncio.to_thread(kill, pid)
    (lapse,) = await second.sweep_until("lapsed", count=1, seconds=10)
    assert lapse.alone


async def test_one_that_was_lost_in_company_too_often_has_its_process_to_itself(
    desk, start_worker, tmp_path, kill, redis_server
):
    worker = start_worker(concurrency=3)
    neighbour, suspect, newcomer = desk, desk.again(), desk.again()
    pid = await begun(neighbour, tmp_path / "neighbour")
    await lose_in_company(suspect, tmp_path / "suspect", times=SUSPECT_AFTER)
    await suspect.executor.dispatch([suspect.hint(0)])
    await asyncio.to_thread(wait_until, lambda: "runs alone" in worker.log.read_text(), what="it asks for the room")
    assert not list((tmp_path / "suspect").glob("started-*"))
    await newcomer.start(1)
    (tmp_path / "neighbour" / "go").touch()
    await neighbour.reports(1)
    assert await started_pids(tmp_path / "suspect", 1) == [pid]
    await asyncio.to_thread(wait_until, lambda: in_broker(redis_server, desk.queue())[0] == 0, what="all are fetched")
    assert [one.state for one in await newcomer.ledger.live(newcomer.run_id, FAN_OUT.id)] == [LiveState.QUEUED]
    await asyncio.to_thread(kill, pid)
    (lapse,) = await suspect.sweep_until("lapsed", count=1, seconds=10)
    assert (f":{pid}:" in lapse.owner, lapse.delivery, lapse.alone) == (True, SUSPECT_AFTER + 1, True)


async def test_those_who_wait_for_a_suspect_run_after_it(desk, start_worker, tmp_path):
    start_worker(concurrency=3)
    suspect, newcomer = desk, desk.again()
    await lose_in_company(suspect, tmp_path / "suspect", times=SUSPECT_AFTER)
    await suspect.executor.dispatch([suspect.hint(0)])
    await started_pids(tmp_path / "suspect", 1)
    await newcomer.start(2)
    (tmp_path / "suspect" / "go").touch()
    (report,) = await suspect.reports(1)
    assert report.outcome is Outcome.SUCCEEDED
    assert [one.outcome for one in await newcomer.reports(2)] == [Outcome.SUCCEEDED] * 2


async def lose_in_company(desk, folder, *, times):
    """A run of one instance, queued, which was lost so often beside those of other runs; nothing is dispatched."""
    folder.mkdir()
    await desk.open(1, act="wait", folder=folder)
    where = Slot(FAN_OUT.id, 0)
    item = QueuedItem(where, desk.module.piece.codec.dump_fields({"number": 0}).encode())
    for number in range(times):
        await desk.ledger.queue(desk.run_id, EPOCH, [item], claim_deadline_seconds=30)
        dead = f"elsewhere:boot:ns:w:{number + 1}:1"
        told = {"owner": dead, "token": f"t{number}", "ttl_seconds": 60, "in_company": True}
        desk.registry.claim(desk.run_id, [where], **told)
        desk.registry.release(dead, has_died=True)
    await desk.ledger.queue(desk.run_id, EPOCH, [item], claim_deadline_seconds=30)


def _is_in_company(desk, of):
    with redis.Redis.from_url(desk.settings.redis_url) as client:
        return b"is_in_company" in client.hget(f"rollforward:run:{{{of.run_id}}}:{FAN_OUT.id}:slots", "0")
