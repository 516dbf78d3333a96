"""The claims that this process holds."""

import asyncio
import threading
from collections import defaultdict
from dataclasses import dataclass, field

from orchestrator.context import Cancellation
from orchestrator.ledger.claim import Claimed, Held


@dataclass(eq=False, slots=True)
class Lease:
    """One claim under way. `is_lost` says that its slot was given to another, so that its report is void."""

    work: Claimed
    cancellation: Cancellation = field(default_factory=Cancellation)
    is_lost: bool = False
    task: asyncio.Task[object] | None = None

    @property
    def held(self) -> Held:
        return Held(self.work.slot, self.work.token)

    def lose(self) -> None:
        """Stop the work; what it comes to is not wanted any more. From any thread."""
        self.is_lost = True
        self.cancel("its lease was lost")

    def cancel(self, reason: str) -> None:
        """Stop the work; from any thread, any number of times."""
        if self.cancellation.is_requested:
            return
        self.cancellation.request(reason)
        if self.task is not None:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)


class Leases:
    """The leases of this process; safe in many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: set[Lease] = set()

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._leases.add(lease)

    def remove(self, lease: Lease) -> None:
        with self._lock:
            self._leases.discard(lease)

    def by_run(self) -> dict[str, list[Lease]]:
        """What is held now, by run."""
        runs: dict[str, list[Lease]] = defaultdict(list)
        with self._lock:
            for lease in self._leases:
                runs[lease.work.run_id].append(lease)
        return runs
