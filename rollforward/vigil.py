"""Whether the owners of runs still renew their leases, as it is seen from here."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from orchestrator.checkpoint.row import Run

PATIENCE_LEASES = 3

_Lease = tuple[int, datetime | None]


class Vigil:
    """Watches the leases of runs that other processes own.

    When a lease ends is said by the clock of the store, which may be set back, and which over SQLite is that of the
    process that wrote it. A lease that has stayed as it is for three times its length was given up, whatever its end
    says.
    """

    def __init__(self, lease: timedelta, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_seconds = PATIENCE_LEASES * lease.total_seconds()
        self._clock = clock
        self._seen: dict[str, tuple[_Lease, float]] = {}

    def abandoned(self, driven: Iterable[Run]) -> list[Run]:
        """Of all the runs that are driven now, those whose lease nobody renews."""
        now = self._clock()
        leases = {run.run_id: (run, (run.epoch, run.lease_until)) for run in driven}
        self._seen = {run_id: self._since(run_id, lease, now) for run_id, (_, lease) in leases.items()}
        return [run for run_id, (run, _) in leases.items() if now - self._seen[run_id][1] > self._patience_seconds]

    def _since(self, run_id: str, lease: _Lease, now: float) -> tuple[_Lease, float]:
        seen, since = self._seen.get(run_id, (None, now))
        return (lease, since) if seen == lease else (lease, now)
