"""Whether the owners of runs still renew their leases, as it is seen from here."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from orchestrator.checkpoint.row import Run

PATIENCE_LEASES = 3
MOST_WATCHED = 100_000
"""Of more, the ones that were not seen for longest are forgotten."""

_Lease = tuple[int, datetime | None]


class Vigil:
    """Watches the leases of runs that other processes own.

    When a lease ends is said by the clock of the store, which may be set back, and which over SQLite is that of the
    process that wrote it. A lease that has stayed as it is for three times its length was given up, whatever its end
    says.
    """

    def __init__(
        self, lease: timedelta, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_WATCHED
    ) -> None:
        self._patience_seconds = PATIENCE_LEASES * lease.total_seconds()
        self._clock = clock
        self._most = most
        self._seen: dict[str, tuple[_Lease, float]] = {}

    def abandoned(self, driven: Iterable[Run]) -> list[Run]:
        """Of runs that are driven now, those whose lease nobody renews; any part of all may be shown at a time."""
        now = self._clock()
        return [run for run in driven if now - self._since(run, now) > self._patience_seconds]

    def _since(self, run: Run, now: float) -> float:
        """When the lease was first seen as it is."""
        lease = (run.epoch, run.lease_until)
        seen, since = self._seen.pop(run.run_id, (None, now))
        self._seen[run.run_id] = (lease, since) if seen == lease else (lease, now)
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]
        return self._seen[run.run_id][1]
