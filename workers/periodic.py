"""A thread that does one thing again and again beside Celery's own."""

import logging
import threading
from collections.abc import Callable

from orchestrator.errors import LedgerUnavailable

logger = logging.getLogger(__name__)


class Periodic:
    """Calls `act` every `every_seconds` until it is ended, then `last` once; goes on whatever they raise."""

    def __init__(
        self, name: str, act: Callable[[], None], *, every_seconds: float, last: Callable[[], None] = lambda: None
    ) -> None:
        self._act = act
        self._last = last
        self._every_seconds = every_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Have it end soon; cheap enough for a signal handler."""
        self._is_over.set()

    def join(self) -> None:
        """Wait until it has ended."""
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._try(self._act)
            self._is_over.wait(self._every_seconds)
        self._try(self._last)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except LedgerUnavailable as error:
            logger.warning("ledger away", extra={"task": self._thread.name, "error": str(error)})
        except Exception:
            # Without this thread, the work of others that died would wait for its lease to end.
            logger.exception("failed, trying again later", extra={"task": self._thread.name})
