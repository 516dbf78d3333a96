"""Keeps the leases of a process alive while it works."""

import logging
import threading
from collections.abc import Sequence

from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger.claim import Beat
from orchestrator.ledger.protocol import WorkerLedger
from workers.lease import Lease, Leases
from workers.loop import LoopThread

logger = logging.getLogger(__name__)

BEAT_AGAIN_SECONDS = 0.5


class Heartbeat:
    """A thread that beats what is held, on a connection of its own, so that no node can hold it up.

    Work is stopped only on an explicit word of the ledger; while the ledger is away, it goes on.
    """

    def __init__(
        self, ledger: WorkerLedger, leases: Leases, loop: LoopThread, *, every_seconds: float, ttl_seconds: float
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._loop = loop
        self._every_seconds = every_seconds
        self._ttl_seconds = ttl_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollforward-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(timeout=5)

    def beat(self) -> bool:
        """Beat every lease once; false where the ledger could not be reached for some."""
        reached = [self._beat_run(run_id, leases) for run_id, leases in self._leases.by_run().items()]
        return all(reached)

    def _run(self) -> None:
        wait = self._every_seconds
        while not self._is_over.wait(wait):
            wait = self._every_seconds if self._try() else min(BEAT_AGAIN_SECONDS, self._every_seconds)

    def _try(self) -> bool:
        try:
            self._watch_loop()
            return self.beat()
        except Exception:
            # Without this thread every lease of the process would end while its work goes on.
            logger.exception("heartbeat failed, trying again")
            return False

    def _beat_run(self, run_id: str, leases: Sequence[Lease]) -> bool:
        held = [lease.held for lease in leases]
        try:
            answers = self._ledger.beat(run_id, held, ttl_seconds=self._ttl_seconds)
        except LedgerUnavailable as error:
            logger.warning("heartbeat not heard, work goes on", extra={"run_id": run_id, "error": str(error)})
            return False
        for lease, answer in zip(leases, answers, strict=True):
            self._act(lease, answer)
        return True

    def _act(self, lease: Lease, answer: Beat) -> None:
        if answer is Beat.OK:
            return
        facts = {"run_id": lease.work.run_id, "index": lease.work.slot.index, "beat": answer.value}
        logger.info("instance stopped by the ledger", extra=facts)
        if answer is Beat.LOST:
            lease.lose()
        else:
            lease.cancel("the run or the fan-out was cancelled")

    def _watch_loop(self) -> None:
        silent = self._loop.poke()
        if silent > self._every_seconds:
            logger.warning(
                "event loop has not turned for %.1f s, at %s; call blocking code from a plain function",
                silent,
                self._loop.where(),
            )
