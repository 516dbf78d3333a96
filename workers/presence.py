"""Tells everybody that this worker is alive, and what it can run."""

import os
import socket
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from celery.worker import state

from orchestrator.graph.registry import registry
from orchestrator.ledger.protocol import WorkerRegistry
from orchestrator.metrics.meter import Labels
from orchestrator.metrics.metric import WORKER_FREE, WORKER_REFUSED, WORKER_SLOTS, Metric
from workers.code_version import code_version
from workers.configuration import broker_url, is_redis
from workers.hearing import HEARD_WITHIN_SECONDS, hearing
from workers.refusal import refusals
from workers.settings import Settings


class Presence:
    """What a Celery worker tells the registry of itself.

    The facts: `host`, `pid`, `pool`, `slots`, `free`, `graphs` (pairs of name and fingerprint), `queues` (those that
    it consumes now), `silent_seconds` (for how long its consumer has listened and heard nothing; None where that is not
    known), `code_version`, `version`, `refused_messages` (how many since it started).
    """

    def __init__(self, worker: Any, settings: Settings, registered: WorkerRegistry) -> None:
        self._worker = worker
        self._registered = registered
        self._ttl_seconds = settings.lease_seconds
        self._hearing = hearing if is_redis(broker_url(settings)) else None
        self._lasting: Mapping[str, object] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pool": _pool_name(worker),
            "graphs": [list(pair) for pair in registry.known()],
            "code_version": code_version(settings),
            "version": _version(),
        }

    def announce(self) -> None:
        """Say what is so now."""
        facts = {**self._lasting, **self._places(), "queues": self._queues(), "refused_messages": refusals.count}
        self._registered.announce(self._worker.hostname, facts, ttl_seconds=self._ttl_seconds)

    def withdraw(self) -> None:
        """Say that no more is taken; what is under way goes on."""
        self._registered.withdraw(self._worker.hostname)

    def measured(self) -> Iterator[tuple[Metric, Labels, float]]:
        """Those of its facts that are counted."""
        worker, places = (self._worker.hostname,), self._places()
        yield WORKER_SLOTS, worker, places["slots"]
        yield WORKER_FREE, worker, places["free"]
        yield WORKER_REFUSED, worker, refusals.count

    def _places(self) -> Mapping[str, Any]:
        slots = int(self._worker.pool.num_processes or self._worker.concurrency)
        # A message that waits in this worker takes a place as one that runs does.
        free = max(0, slots - len(state.reserved_requests))
        if self._hearing is None:
            return {"slots": slots, "free": free, "silent_seconds": None}
        if not free:
            self._hearing.note()
        silent = self._hearing.silent_seconds
        is_heard = silent <= HEARD_WITHIN_SECONDS
        return {"slots": slots, "free": free if is_heard else 0, "silent_seconds": round(silent, 1)}

    def _queues(self) -> list[str]:
        consumer = getattr(self._worker.consumer, "task_consumer", None)
        if consumer is None:
            return []
        return sorted(queue.name for queue in consumer.queues if consumer.consuming_from(queue.name))


def _pool_name(worker: Any) -> str:
    return str(worker.pool_cls.__module__).rpartition(".")[2]


def _version() -> str:
    try:
        return version("rollforward")
    except PackageNotFoundError:
        return "unknown"
