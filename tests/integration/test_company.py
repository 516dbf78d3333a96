"""Instances of two runs in one worker process, and who is charged when it dies."""

import asyncio
import os
import signal

import pytest
import redis

from tests.integration.test_worker import FAN_OUT, LONG_LEASE, a_desk, started_pids
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


def _is_in_company(desk, of):
    with redis.Redis.from_url(desk.settings.redis_url) as client:
        return b"is_in_company" in client.hget(f"rollforward:run:{{{of.run_id}}}:{FAN_OUT.id}:slots", "0")
