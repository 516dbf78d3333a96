"""What a worker process needs to run instances; one for each process, made with its first message."""

import logging
import os
import threading
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.errors import LedgerLost, LedgerUnavailable
from orchestrator.execution.briefing import Briefing
from orchestrator.graph.registry import registry
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.output import OutputOptions
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Claimed
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.seal import Seal
from orchestrator.tracing.tracing import Tracing, Untraced
from workers.code_version import code_version
from workers.graph_list import load_graphs
from workers.heartbeat import Heartbeat
from workers.lease import Lease, Leases
from workers.loop import LoopThread
from workers.metering import Metering
from workers.opening import open_worker_ledger
from workers.persistence import insist
from workers.process import this_owner
from workers.settings import Settings

if TYPE_CHECKING:
    from backends.telemetry.otel.per_process import TracedWorker

logger = logging.getLogger(__name__)

BRIEFINGS_KEPT = 16
GRAPHS_KEPT = 256


class ProcessRuntime:
    """The loop, the ledger and the leases of this process; `is_spent` once it should make way for another.

    `lone_runtime` is for instances that have the process to themselves.
    Nothing in it survives a fork: `current` makes a new one where the process is another.
    """

    def __init__(
        self, settings: Settings, worker: str, *, tracing: Tracing | None = None, meter: Meter = UNMETERED
    ) -> None:
        load_graphs(settings.graphs)
        self.settings = settings
        self.pid = os.getpid()
        self.owner = str(this_owner(worker))
        self.seal = Seal(settings.seal_keys)
        self.ledger = open_worker_ledger(settings)
        self.meter = meter
        self.leases = Leases(meter)
        self.is_spent = False
        self.loop = LoopThread("rollforward-instances")
        find = lru_cache(maxsize=GRAPHS_KEPT)(registry.find)
        keep = in_ledger(self.ledger.progress)
        self.runtime = Runtime(
            worker=worker,
            find=find,
            code_version=code_version(settings),
            keep=keep,
            tracing=tracing or Untraced(),
            output=OutputOptions(capture=settings.capture),
        )
        self.lone_runtime = replace(self.runtime, output=replace(self.runtime.output, is_alone=True))
        self._briefings = lru_cache(maxsize=BRIEFINGS_KEPT)(self._fetch_briefing)
        self._beat_ledger = open_worker_ledger(settings)
        self._heartbeat = Heartbeat(
            self._beat_ledger,
            self.leases,
            self.loop,
            every_seconds=settings.heartbeat_seconds,
            ttl_seconds=settings.lease_seconds,
            meter=meter,
        )
        self._heartbeat.start()

    def briefing_of(self, work: Claimed) -> Briefing:
        """What all instances of the fan-out share, fetched once.

        An orchestrator that has taken over since the claim has put its own in place of the one that the claim names:
        the work is done for that one.

        Raises:
            LedgerLost: the ledger has none by now.
        """
        return self._briefings(work.run_id, work.slot.fan_out, work.briefing_hash)

    def begin(self, lease: Lease) -> None:
        """Return when its code may run: by then the ledger knows who runs beside whom in this process."""
        self.leases.begin(lease)
        insist(self._heartbeat.tell_company, unless=lambda: lease.is_lost)

    def abandon(self, *, has_died: bool = False) -> None:
        """Stop what runs, report nothing of it, and let others have it at once; `has_died` as in `release`."""
        self._heartbeat.close()
        for lease in self.leases.all():
            lease.lose()
        try:
            self._beat_ledger.release(self.owner, has_died=has_died)
        except LedgerUnavailable as error:
            logger.warning("leases not released, they end by themselves", extra={"error": str(error)})

    def close(self) -> None:
        """End the threads and let go of the connections."""
        self._heartbeat.close()
        self.loop.close()
        self._beat_ledger.close()
        self.ledger.close()

    def _fetch_briefing(self, run_id: str, fan_out: str, _briefing_hash: str) -> Briefing:
        text = self.ledger.briefing(run_id, fan_out)
        if text is None:
            raise LedgerLost(run_id)
        return Briefing.from_json(text)


class CurrentRuntime:
    """The runtime of whatever process asks: prefork children, threads and the solo pool alike."""

    def __init__(self, settings: Settings, metering: Metering | None = None) -> None:
        self.metering = metering or Metering()
        self._settings = settings
        self._traced: TracedWorker | None = None
        self._lock = threading.Lock()
        self._runtime: ProcessRuntime | None = None

    def of(self, worker: str) -> ProcessRuntime:
        """The runtime of this process, which is part of the worker of that name."""
        runtime = self._of_this_process()
        if runtime is not None:
            return runtime
        with self._lock:
            if self._runtime is None or self._runtime.pid != os.getpid():
                self._runtime = ProcessRuntime(
                    self._settings, worker, tracing=self._tracing(), meter=self.metering.of_this_process()
                )
            return self._runtime

    def trace(self, traced: "TracedWorker") -> None:
        """Trace what runs from now on in this worker."""
        self._traced = traced

    def abandon(self) -> None:
        """Stop what runs in this process, if anything ever did."""
        runtime = self._of_this_process()
        if runtime is not None:
            runtime.abandon()

    def is_spent(self) -> bool:
        """Whether this process should make way for another."""
        runtime = self._of_this_process()
        return runtime is not None and runtime.is_spent

    def _tracing(self) -> Tracing | None:
        return None if self._traced is None else self._traced.observer

    def _of_this_process(self) -> ProcessRuntime | None:
        runtime = self._runtime
        return runtime if runtime is not None and runtime.pid == os.getpid() else None
