"""Tells everybody that this worker is alive, and what it can run."""

import os
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from celery.worker import state

from orchestrator.graph.registry import registry
from orchestrator.ledger.protocol import WorkerRegistry
from workers.code_version import code_version
from workers.refusal import refusals
from workers.settings import Settings


class Presence:
    """What a Celery worker tells the registry of itself.

    The facts: `host`, `pid`, `pool`, `slots`, `free`, `graphs` (pairs of name and fingerprint), `queues`,
    `code_version`, `version`, `refused_messages` (how many since it started).
    """

    def __init__(self, worker: Any, settings: Settings, registered: WorkerRegistry) -> None:
        self._worker = worker
        self._registered = registered
        self._ttl_seconds = settings.lease_seconds
        self._lasting: Mapping[str, object] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pool": _pool_name(worker),
            "graphs": [list(pair) for pair in registry.known()],
            "queues": sorted(worker.app.amqp.queues.consume_from),
            "code_version": code_version(settings),
            "version": _version(),
        }

    def announce(self) -> None:
        """Say what is so now."""
        facts = {**self._lasting, **self._places(), "refused_messages": refusals.count}
        self._registered.announce(self._worker.hostname, facts, ttl_seconds=self._ttl_seconds)

    def withdraw(self) -> None:
        """Say that no more is taken; what is under way goes on."""
        self._registered.withdraw(self._worker.hostname)

    def _places(self) -> Mapping[str, object]:
        slots = int(self._worker.pool.num_processes or self._worker.concurrency)
        # A message that waits in this worker takes a place as one that runs does.
        return {"slots": slots, "free": max(0, slots - len(state.reserved_requests))}


def _pool_name(worker: Any) -> str:
    return str(worker.pool_cls.__module__).rpartition(".")[2]


def _version() -> str:
    try:
        return version("rollforward")
    except PackageNotFoundError:
        return "unknown"
