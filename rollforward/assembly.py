"""Puts the parts together that drive runs: a store, a ledger with its executor, and an orchestrator."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from backends.ledgers.redis.orchestrator import RedisLedger
from backends.opening import open_store
from backends.telemetry.opening import open_tracing
from backends.telemetry.otel.options import TracingOptions
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.graph.registry import registry
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.output import OutputOptions
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.protocol import WorkerRegistry
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.observers.observation import Observation
from orchestrator.seal import Seal
from orchestrator.tracing.tracing import Tracing, Untraced
from rollforward.liveness import is_dead
from rollforward.observers import OpenedObservers, opened_observers
from workers.code_version import code_version
from workers.dispatch import CeleryExecutor
from workers.opening import RedisNotNamed, open_worker_ledger
from workers.process import this_owner
from workers.settings import Settings
from workers.tracing import trace_celery, untrace_celery

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from backends.telemetry.otel.observer import OTelObserver

log = logging.getLogger(__name__)

ExecutorName = Literal["celery", "local"]

SHUTDOWN_SECONDS = 5.0
"""So long the last spans may take where a collector is slow, or away."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of a process that drives runs; `workers` is there where instances go to workers.

    `provider` makes the spans where runs are traced: a process of ours offers it to what users instrument. `observers`
    say at the end what they did not keep.
    """

    store: CheckpointStore
    lane: Lane
    orchestrator: Orchestrator
    workers: WorkerRegistry | None
    provider: "TracerProvider | None" = None
    observers: OpenedObservers = field(default_factory=OpenedObservers)


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[CheckpointStore]:
    """The checkpoint store of these settings, closed at the end."""
    store = open_store(settings.checkpoint_url, namespace=settings.namespace)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def assembled(settings: Settings, executor: ExecutorName, *, meter: Meter = UNMETERED) -> AsyncIterator[Assembly]:
    """Everything that drives runs, closed at the end; `celery` needs a Redis URL in the settings."""
    async with AsyncExitStack() as stack:
        traced = await stack.enter_async_context(_opened_tracing(settings))
        tracing: Tracing = traced or Untraced()
        store = await stack.enter_async_context(opened_store(settings))
        workers = open_worker_ledger(settings) if executor == "celery" else None
        if workers is None:
            lane = await stack.enter_async_context(_local_lane(settings, tracing))
        else:
            stack.callback(workers.close)
            lane = await stack.enter_async_context(_celery_lane(settings, workers))
        observers = await stack.enter_async_context(opened_observers(settings, meter))
        observation = Observation.by(observers.keepers).beside(Observation(tracing=tracing))
        options = _options(settings, meter)
        orchestrator = Orchestrator(store, lane=lane, options=options, is_dead=is_dead, observation=observation)
        provider = None if traced is None else traced.provider
        yield Assembly(store, lane, orchestrator, workers, provider=provider, observers=observers)


def open_orchestrator_ledger(settings: Settings) -> RedisLedger:
    """An orchestrator's end of the ledger; it connects when it is first used, and is to be closed.

    Raises:
        RedisNotNamed: the settings have no Redis.
    """
    if settings.redis_url is None:
        raise RedisNotNamed
    return RedisLedger(settings.redis_url, namespace=settings.namespace, seal=Seal(settings.seal_keys))


@asynccontextmanager
async def _celery_lane(settings: Settings, workers: WorkerRegistry) -> AsyncIterator[Lane]:
    async with AsyncExitStack() as stack:
        ledger = open_orchestrator_ledger(settings)
        stack.push_async_callback(ledger.close_connections)
        executor = CeleryExecutor(settings, workers)
        stack.push_async_callback(executor.close)
        yield Lane(ledger=ledger, executor=executor)


@asynccontextmanager
async def _opened_tracing(settings: Settings) -> "AsyncIterator[OTelObserver | None]":
    """What the environment asks for, with Celery's own spans; what is left is exported at the end."""
    options = TracingOptions(instance_share=settings.trace_share, most_instances=settings.trace_most)
    tracing = open_tracing(os.environ, options)
    if tracing is None:
        yield None
        return
    trace_celery(tracing.provider)
    try:
        yield tracing
    finally:
        untrace_celery()
        await _within(SHUTDOWN_SECONDS, tracing.shutdown)


async def _within(seconds: float, act: Callable[[], None]) -> None:
    """Call it in a thread that keeps nobody from leaving when it is not done in time."""
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def run() -> None:
        act()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="rollforward-last-spans", daemon=True).start()
    try:
        await asyncio.wait_for(done.wait(), seconds)
    except TimeoutError:
        log.warning("the last spans were not taken in time", extra={"seconds": seconds})


@asynccontextmanager
async def _local_lane(settings: Settings, tracing: Tracing) -> AsyncIterator[Lane]:
    ledger = MemoryLedger(max_bytes=settings.max_item_bytes)
    runtime = Runtime(
        worker="local",
        find=registry.find,
        code_version=code_version(settings),
        keep=in_ledger(ledger.progress),
        tracing=tracing,
        output=OutputOptions(capture=settings.capture),
    )
    executor = LocalExecutor(ledger, runtime)
    try:
        yield Lane(ledger=ledger, executor=executor)
    finally:
        await executor.close()


def _options(settings: Settings, meter: Meter) -> Options:
    return Options(
        owner=str(this_owner("orchestrator")),
        instance_lease=timedelta(seconds=settings.lease_seconds),
        heartbeat=timedelta(seconds=settings.heartbeat_seconds),
        max_deliveries=settings.max_deliveries,
        max_item_bytes=settings.max_item_bytes,
        code_version=code_version(settings),
        meter=meter,
        capture=settings.capture,
    )
