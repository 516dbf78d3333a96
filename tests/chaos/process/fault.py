"""The faults, by kind: each is done, watched until the work goes on, and undone."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import redis

from tests.chaos.process.field import Fault, Field
from tests.chaos.process.size import ORCHESTRATOR_LEASE_SECONDS
from tests.chaos.process.skew import SteppingRedis
from tests.service.worker import wait_until

UNWRITTEN_SECONDS = 2.0
"""Redis answers so long before it has written, where the disk is busy: what it was given then is void."""

STEP_SECONDS = 86_400
STEPPED_WITHIN_SECONDS = 60.0

Injection = Callable[[Field], Awaitable[Fault]]


async def kill_child(field: Field) -> Fault:
    """SIGKILL a pool process in the middle of an instance."""
    async with field.victim() as (_, execution):
        at = time.monotonic()
        os.kill(execution.pid, signal.SIGKILL)
        places = field.hit({execution.pid}, killed=True)
        detected = await field.until_begun_again(places, at)
        return Fault(kind="child", at=at, until=at, pids=frozenset({execution.pid}), detected=detected)


async def kill_worker(field: Field) -> Fault:
    """SIGKILL a worker, alone or with its process group; nobody else is on its host."""
    async with field.victim() as (worker, execution):
        at = time.monotonic()
        pids = worker.kill() if field.random.random() < 0.5 else worker.kill_group()
        places = field.hit(pids | {execution.pid}, killed=True)
        until = time.monotonic()
        detected = await field.until_begun_again(places, at)
        await field.deployment.restart(worker)
        return Fault(kind="worker", at=at, until=until, pids=frozenset(pids), detected=detected)


async def freeze_worker(field: Field) -> Fault:
    """SIGSTOP a worker with its children past its leases, and wake it when others have its work."""
    async with field.victim() as (worker, _):
        at = time.monotonic()
        pids = worker.freeze()
        try:
            places = field.hit(pids)
            detected = await field.until_begun_again(places, at)
        finally:
            worker.wake()
        until = time.monotonic() + field.deployment.size.lease_seconds
        return Fault(kind="frozen", at=at, until=until, pids=frozenset(pids), detected=detected)


async def cut_worker_off(field: Field) -> Fault:
    """Keep a worker from Redis past its leases."""
    async with field.victim(only=field.deployment.workers[0]) as (worker, _):
        at, pids = time.monotonic(), worker.pids
        with field.deployment.proxies[worker.name].cut():
            detected = await field.until_begun_again(field.hit(pids), at)
        until = time.monotonic() + field.deployment.size.lease_seconds
        return Fault(kind="cut_off", at=at, until=until, pids=frozenset(pids), detected=detected)


async def swallow_replies(field: Field) -> Fault:
    """Let Redis hear a worker and an orchestrator, and these not what it answers, for a while."""
    worker = field.deployment.workers[0]
    at, pids = time.monotonic(), worker.pids
    with ExitStack() as silence:
        for proxy in field.deployment.proxies.values():
            silence.enter_context(proxy.silent())
        await asyncio.sleep(field.random.uniform(0.5, field.deployment.size.lease_seconds * 1.2))
    back = time.monotonic()
    detected = await field.until_all_work(back)
    until = back + field.deployment.size.lease_seconds
    return Fault(kind="replies", at=at, until=until, pids=frozenset(pids), detected=detected)


async def lose_message(field: Field) -> Fault:
    """Lose the next message."""
    place, at = await asyncio.wrap_future(field.deployment.relay.lose_next())
    detected = await field.until_begun_again({place}, at)
    return Fault(kind="message", at=at, until=at, detected=detected)


async def kill_orchestrator(field: Field) -> Fault:
    """SIGKILL an orchestrator that drives runs; on its host it would be missed at once, so it starts again later."""
    async with field.owner() as orchestrator:
        at, pid = time.monotonic(), orchestrator.pid
        orchestrator.kill_group()
        detected = await field.until_taken_over(pid, await field.deployment.going_on(), at)
        await field.deployment.restart(orchestrator)
        return Fault(kind="orchestrator", at=at, until=at, detected=detected)


async def freeze_orchestrator(field: Field) -> Fault:
    """SIGSTOP an orchestrator until another owns its runs, and wake it: two think that they own them."""
    async with field.owner() as orchestrator:
        at, pid = time.monotonic(), orchestrator.pid
        orchestrator.freeze()
        try:
            detected = await field.until_taken_over(pid, await field.deployment.going_on(), at)
        finally:
            orchestrator.wake()
        return Fault(kind="split_brain", at=at, until=time.monotonic(), detected=detected)


async def kill_redis(field: Field) -> Fault:
    """SIGKILL Redis, and start it again on its append-only file."""
    async with field.redis_lock:
        at = time.monotonic()
        await asyncio.to_thread(_restart, field)
        return await _back(field, "redis", at - UNWRITTEN_SECONDS, at)


async def roll_redis_back(field: Field) -> Fault:
    """SIGKILL Redis, and start it again on what its append-only file was a second before."""
    async with field.redis_lock:
        file = field.deployment.redis.folder / "appendonly.aof"
        size = file.stat().st_size
        await asyncio.sleep(1)
        at = time.monotonic()
        await asyncio.to_thread(_restart, field, lambda: os.truncate(file, size))
        # What it was given meanwhile is void.
        return await _back(field, "rollback", at - 1 - UNWRITTEN_SECONDS, time.monotonic())


async def freeze_redis(field: Field) -> Fault:
    """SIGSTOP Redis for a while, which may be longer than a lease."""
    async with field.redis_lock:
        at, pid = time.monotonic(), field.deployment.redis.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(field.deployment.size.lease_seconds * field.random.choice((0.3, 1.2)))
        finally:
            os.kill(pid, signal.SIGCONT)
        return await _back(field, "redis_frozen", at, time.monotonic())


async def flush_redis(field: Field) -> Fault:
    """FLUSHALL."""
    return await _told(field, "flush", lambda client: client.flushall())


async def cut_clients(field: Field) -> Fault:
    """CLIENT KILL of every connection."""
    return await _told(field, "client_kill", lambda client: client.client_kill_filter(_type="normal", skipme=True))


async def fill_redis(field: Field) -> Fault:
    """Leave Redis no memory for a while."""
    return await _for_a_while(
        field,
        "maxmemory",
        lambda client: client.config_set("maxmemory", 1),
        lambda client: client.config_set("maxmemory", 0),
    )


async def turn_redis_read_only(field: Field) -> Fault:
    """Make Redis the replica of nobody for a while."""
    return await _for_a_while(
        field,
        "replica_of",
        lambda client: client.replicaof("127.0.0.1", 1),
        lambda client: client.replicaof("NO", "ONE"),
    )


async def step_redis_ahead(field: Field) -> Fault:
    """Set the clock of Redis on by a day: every lease looks ended."""
    async with field.redis_lock:
        at = time.monotonic()
        await _step(field, STEP_SECONDS)
        return await _back(field, "redis_ahead", at, time.monotonic())


async def step_redis_back(field: Field) -> Fault:
    """Kill a worker and set the clock of Redis back by a day, which its leases would last longer."""
    async with field.redis_lock, field.victim() as (worker, execution):
        at = time.monotonic()
        pids = worker.kill_group()
        places = field.hit(pids | {execution.pid}, killed=True)
        await _step(field, -STEP_SECONDS)
        detected = await field.until_begun_again(places, at)
        await field.deployment.restart(worker)
        return Fault(kind="redis_back", at=at, until=time.monotonic(), is_global=True, detected=detected)


async def _step(field: Field, seconds: int) -> None:
    server = field.deployment.redis
    assert isinstance(server, SteppingRedis)
    server.step(seconds)
    with server.client() as client:
        await asyncio.to_thread(
            wait_until,
            lambda: abs(client.time()[0] - time.time() - server.offset_seconds) < STEPPED_WITHIN_SECONDS,
            what="the clock of Redis is set",
        )


async def stop_postgres(field: Field) -> Fault:
    """Stop PostgreSQL at once, and start it again after a while."""
    server = field.deployment.postgres
    assert server is not None
    at = time.monotonic()
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(field.random.uniform(0, ORCHESTRATOR_LEASE_SECONDS * 1.2))
    await asyncio.to_thread(server.start)
    until = time.monotonic()
    return Fault(kind="postgres", at=at, until=until, detected=await field.until_all_work(until))


KINDS: dict[str, Injection] = {
    "child": kill_child,
    "worker": kill_worker,
    "frozen": freeze_worker,
    "message": lose_message,
    "cut_off": cut_worker_off,
    "replies": swallow_replies,
    "orchestrator": kill_orchestrator,
    "split_brain": freeze_orchestrator,
    "redis": kill_redis,
    "rollback": roll_redis_back,
    "redis_frozen": freeze_redis,
    "flush": flush_redis,
    "client_kill": cut_clients,
    "maxmemory": fill_redis,
    "replica_of": turn_redis_read_only,
    "redis_ahead": step_redis_ahead,
    "redis_back": step_redis_back,
    "postgres": stop_postgres,
}
OF_REDIS = ("rollback", "redis_frozen", "flush", "client_kill", "maxmemory", "replica_of")
"""One of these at a time."""
OF_REDIS_CLOCK = ("redis_ahead", "redis_back")
"""The same, where clocks are set."""


async def inject(field: Field, kind: str, *, is_alone: bool) -> None:
    """Do it, and keep what came of it; `is_alone` where nothing else disturbs what is measured.

    What is to be measured is done again where it hit nothing: a run may have ended just then.
    """
    while True:
        fault = replace(await KINDS[kind](field), is_alone=is_alone)
        field.faults.append(fault)
        if fault.detected is not None or not is_alone:
            return


def _restart(field: Field, meanwhile: Callable[[], None] = lambda: None) -> None:
    field.deployment.redis.kill()
    meanwhile()
    field.deployment.redis.start()


async def _back(field: Field, kind: str, at: float, back: float) -> Fault:
    detected = await field.until_all_work(back)
    return Fault(kind=kind, at=at, until=back + detected, is_global=True, detected=detected)


async def _told(field: Field, kind: str, tell: Callable[[redis.Redis], Any]) -> Fault:
    async with field.redis_lock:
        at = time.monotonic()
        with field.deployment.redis.client() as client:
            tell(client)
        return await _back(field, kind, at, at)


async def _for_a_while(
    field: Field, kind: str, begin: Callable[[redis.Redis], Any], end: Callable[[redis.Redis], Any]
) -> Fault:
    async with field.redis_lock:
        at = time.monotonic()
        with field.deployment.redis.client() as client:
            begin(client)
            await asyncio.sleep(field.random.uniform(0.5, field.deployment.size.lease_seconds * 1.2))
            end(client)
        return await _back(field, kind, at, time.monotonic())
