"""The claims that this process holds."""

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from orchestrator.context import Cancellation
from orchestrator.execution.briefing import Briefing
from orchestrator.ledger.claim import Claimed, Held
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.metrics.metric import WORKER_LEASES


@dataclass(eq=False, slots=True)
class Lease:
    """One claim under way. `is_lost` says that its slot was given to another, so that its report is void.

    `has_begun` says that its code runs or is about to, `is_told` that the ledger has it as in company, and `is_alone`
    that nothing else runs in this process meanwhile.
    `heard_at` is when the ledger last extended it, by this process's clock. `briefing` comes before it runs.
    """

    work: Claimed
    cancellation: Cancellation = field(default_factory=Cancellation)
    is_lost: bool = False
    has_begun: bool = False
    is_told: bool = False
    is_alone: bool = False
    heard_at: float = field(default_factory=time.monotonic)
    task: asyncio.Task[object] | None = None
    briefing: Briefing | None = None

    @property
    def place(self) -> dict[str, object]:
        """What a log line says of where it is for: the invocation and the node only once it is briefed."""
        work, briefing = self.work, self.briefing
        facts: dict[str, object] = {"run_id": work.run_id, "index": work.slot.index, "delivery": work.delivery}
        if work.key is not None:
            facts["item_key"] = work.key
        if briefing is not None:
            facts |= {"invocation_id": briefing.invocation_id, "correlation_id": briefing.correlation_id}
            facts["node"] = briefing.fan_out.path
        return facts

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


@dataclass(frozen=True, slots=True)
class Beside:
    """Leases of one run; `in_company` where instances of other runs have begun beside them in this process."""

    run_id: str
    leases: Sequence[Lease]
    in_company: bool


class Leases:
    """The leases of this process; safe in many threads."""

    def __init__(self, meter: Meter = UNMETERED) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._leases: set[Lease] = set()
        self._coming: Counter[str] = Counter()

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._leases.add(lease)
            self._meter.set(WORKER_LEASES, len(self._leases))

    def remove(self, lease: Lease) -> None:
        with self._lock:
            self._leases.discard(lease)
            self._meter.set(WORKER_LEASES, len(self._leases))

    @contextmanager
    def coming(self, run_id: str) -> Iterator[bool]:
        """Announce a claim in a run; whether those of other runs are here, or on their way, when it is made."""
        with self._lock:
            self._coming[run_id] += 1
            others = {lease.work.run_id for lease in self._leases} | self._coming.keys()
        try:
            yield bool(others - {run_id})
        finally:
            with self._lock:
                self._coming[run_id] -= 1
                self._coming += Counter()

    def begin(self, lease: Lease) -> None:
        """Take note that its code is about to run: from now on it is company for those of other runs."""
        with self._lock:
            lease.has_begun = True

    def all(self) -> list[Lease]:
        """What is held now."""
        with self._lock:
            return list(self._leases)

    def to_beat(self) -> list[Beside]:
        """What is held now, by run. What the ledger knows of their company otherwise, it does not know from now on."""
        with self._lock:
            found = self._beside()
            for beside in found:
                for lease in beside.leases:
                    lease.is_told = lease.is_told and beside.in_company
            return found

    def to_tell(self) -> list[Beside]:
        """Those in company of whom the ledger does not know it, by run; of who is left alone a beat will tell."""
        with self._lock:
            found = [beside for beside in self._beside() if beside.in_company]
        mistaken = [replace(beside, leases=[one for one in beside.leases if not one.is_told]) for beside in found]
        return [beside for beside in mistaken if beside.leases]

    def _beside(self) -> list[Beside]:
        runs: dict[str, list[Lease]] = defaultdict(list)
        for lease in self._leases:
            runs[lease.work.run_id].append(lease)
        begun = {lease.work.run_id for lease in self._leases if lease.has_begun}
        return [Beside(run_id, leases, bool(begun - {run_id})) for run_id, leases in runs.items()]
