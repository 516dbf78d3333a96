"""How many messages a worker fetches ahead of what it runs.

With none ahead, a process that has done its instance waits for a round trip to the broker, which is longer than a short
instance takes. With many ahead, an idle worker waits for those that a busy one holds. So a worker holds what it works
off in a moment, and nothing ahead where instances are long.
"""

import time
from typing import Any

from celery.worker import state

AHEAD_SECONDS = 0.1
MOST_AHEAD = 3
"""How many messages are ahead at most, for each place of the worker."""


class Prefetch:
    """Adjusts the prefetch count of a Celery worker to how fast it works."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._begun = _begun()
        self._at = time.monotonic()

    def adjust(self) -> None:
        """Fetch ahead what was worked off, since the last call, in the time that may be ahead."""
        begun, at = _begun(), time.monotonic()
        rate, self._begun, self._at = (begun - self._begun) / max(at - self._at, 1e-3), begun, at
        qos = getattr(self._worker.consumer, "qos", None)
        if qos is None:
            return
        change = prefetch(int(self._worker.pool.num_processes or self._worker.concurrency), rate) - qos.value
        if change > 0:
            qos.increment_eventually(change)
        elif change < 0:
            qos.decrement_eventually(-change)


def prefetch(slots: int, rate_per_s: float) -> int:
    """The prefetch count of a worker with that many places that begins that many instances a second."""
    return slots + min(int(rate_per_s * AHEAD_SECONDS), MOST_AHEAD * slots)


def _begun() -> int:
    return sum(state.total_count.values())
