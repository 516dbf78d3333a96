"""Keeps the leases of a process alive while it works."""

import logging
import threading
import time

from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger.claim import Beat
from orchestrator.ledger.protocol import WorkerLedger
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.metrics.metric import BEAT_GAP
from workers.lease import Beside, Lease, Leases
from workers.loop import LoopThread

logger = logging.getLogger(__name__)

BEAT_AGAIN_SECONDS = 0.5


class Heartbeat:
    """A thread that beats what is held, on a connection of its own, so that no node can hold it up.

    Work is stopped only on an explicit word of the ledger; while the ledger is away, it goes on.
    """

    def __init__(
        self,
        ledger: WorkerLedger,
        leases: Leases,
        loop: LoopThread,
        *,
        every_seconds: float,
        ttl_seconds: float,
        meter: Meter = UNMETERED,
    ) -> None:
        self._meter = meter
        self._ledger = ledger
        self._leases = leases
        self._loop = loop
        self._every_seconds = every_seconds
        self._ttl_seconds = ttl_seconds
        self._is_over = threading.Event()
        # What is told last must arrive last.
        self._telling = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="rollforward-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(timeout=5)

    def beat(self) -> bool:
        """Beat every lease once; false where the ledger could not be reached for some."""
        with self._telling:
            reached = [self._try_to_tell(beside) for beside in self._leases.to_beat()]
        return all(reached)

    def tell_company(self) -> None:
        """Have the ledger know who runs beside whom; of a run whose keys are spoilt it knows nothing anyway.

        Raises:
            LedgerUnavailable: it does not know by now.
        """
        if self._leases.to_tell():
            with self._telling:
                for beside in self._leases.to_tell():
                    self._tell_what_can_be_told(beside)

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

    def _try_to_tell(self, beside: Beside) -> bool:
        try:
            return self._tell_what_can_be_told(beside)
        except LedgerUnavailable as error:
            logger.warning("heartbeat not heard, work goes on", extra={"run_id": beside.run_id, "error": str(error)})
            return False

    def _tell_what_can_be_told(self, beside: Beside) -> bool:
        """False where something is wrong with this run only: the others must not suffer from that."""
        try:
            self._tell(beside)
        except LedgerUnavailable:
            raise
        except Exception:
            logger.exception("heartbeat refused, work goes on", extra={"run_id": beside.run_id})
            return False
        return True

    def _tell(self, beside: Beside) -> None:
        held = [lease.held for lease in beside.leases]
        answers = self._ledger.beat(beside.run_id, held, ttl_seconds=self._ttl_seconds, in_company=beside.in_company)
        for lease, answer in zip(beside.leases, answers, strict=True):
            lease.is_told = beside.in_company
            self._act(lease, answer)

    def _act(self, lease: Lease, answer: Beat) -> None:
        if answer is Beat.OK:
            now = time.monotonic()
            self._meter.observe(BEAT_GAP, now - lease.heard_at)
            lease.heard_at = now
            return
        logger.info("instance stopped by the ledger", extra={**lease.place, "beat": answer.value})
        if answer is Beat.LOST:
            lease.lose()
        else:
            lease.cancel("the run or the fan-out is over, or was cancelled")

    def _watch_loop(self) -> None:
        silent = self._loop.poke()
        if silent > self._every_seconds:
            logger.warning(
                "event loop has not turned for %.1f s, at %s; call blocking code from a plain function",
                silent,
                self._loop.where(),
            )
