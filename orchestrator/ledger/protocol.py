"""The ledger: claims, leases and reports of a run in flight.

The two protocols are the two ends of the wire. Each verb is atomic and idempotent, and a client library may send
one twice. Losing a whole ledger costs repeated execution and nothing else.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, ClaimAnswer, Held, Reported
from orchestrator.ledger.view import LiveInstance, Opening, Progress, QueueAnswer, QueuedItem, Sweep, Usage
from orchestrator.report import Report


class WorkerLedger(Protocol):
    """What a worker may do. Synchronous: its calls must not depend on a loop that a node may block.

    Raises, from every verb:
        LedgerUnavailable: nothing is known; the same call may be made again.
    """

    def claim(
        self,
        run_id: str,
        slots: Sequence[Slot],
        *,
        owner: str,
        token: str,
        ttl_seconds: float,
        in_company: bool = False,
    ) -> list[ClaimAnswer]:
        """Take the right to run these slots, until `ttl_seconds` from now; one answer a slot, in order.

        A slot that is queued goes in flight: its delivery count is raised, `token` and `owner` replace the old ones.
        The answer brings the item and the progress kept. A slot whose lease has ended is busy until it is queued again,
        so that no loss goes unseen. The same token again is answered as it was the first time.

        `in_company` says that `owner` runs instances of other runs: until a beat says otherwise, a loss of these slots
        is none that they suffered alone. Of those of the same run the ledger knows by itself.
        """

    def briefing(self, run_id: str, fan_out: str) -> bytes | None:
        """What all instances of a fan-out share, as `open` was given it; None where the ledger does not know it."""

    def beat(self, run_id: str, held: Sequence[Held], *, ttl_seconds: float, in_company: bool = False) -> list[Beat]:
        """Extend the leases whose token is still the slot's; one answer each, in order. `in_company` as in `claim`.

        What belongs to a run that was forgotten is to be cancelled.
        """

    def progress(self, run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        """Keep what an instance tells while it runs, for the claim after this one; false where the token is stale."""

    def report(self, run_id: str, reports: Sequence[Report]) -> list[Reported]:
        """Store how instances ended, drop their leases and wake the orchestrator; one answer each, in order.

        Accepted where the slot is in flight under the report's token, also when its lease has ended but nobody took
        it. The same report again is accepted again. After its run was forgotten it is told apart from a stale one.
        """

    def release(self, owner: str, *, has_died: bool) -> int:
        """Free every lease of `owner`, in all runs, and say how many: it has ended, or is about to.

        `has_died` tells one that was killed or crashed, perhaps by what it ran, from one that stops in order and hands
        back what it could not finish. The first release of a lease counts.
        """

    def decline(self, run_id: str, slots: Sequence[Slot], *, worker: str, reason: str) -> None:
        """Say that this worker cannot run these slots, without claiming them."""


class OrchestratorLedger(Protocol):
    """What the owner of a run may do.

    Raises, from every verb:
        LedgerUnavailable: nothing is known; the same call may be made again.
        Fenced: the ledger has seen a higher epoch.
        LedgerLost: the ledger knows nothing of this epoch (it was emptied or rolled back); `open` mends it.
    """

    async def open(self, run_id: str, epoch: int, opening: Opening) -> None:
        """Make the ledger equal the record for one fan-out, both ways, and accept `epoch` as the owner's.

        What is recorded is closed; what is closed but not recorded is free again. Reports not yet recorded, live
        leases and delivery counts are kept. May be called any number of times.
        """

    async def queue(
        self, run_id: str, epoch: int, items: Sequence[QueuedItem], *, claim_deadline_seconds: float
    ) -> list[QueueAnswer]:
        """Put items up for claiming, before their message is published; one answer each, in order.

        A slot that is reported, closed or under a live lease is left alone. The token and owner of an ended lease stay:
        only a claim replaces them.
        """

    async def told(self, run_id: str, epoch: int, since: Mapping[Slot, int]) -> list[Progress]:
        """What instances have told by `progress` since so many entries; one answer each, in order.

        An answer may hold less than there is: whoever wants all asks again until nothing comes. What an owner was given
        is noted, so that the next one knows what observers may have heard. Where nothing is known, nothing was told.
        """

    async def close(self, run_id: str, epoch: int, slots: Sequence[Slot]) -> None:
        """After the record is committed: delete item, report and progress, and mark the slots closed."""

    async def reset(self, run_id: str, epoch: int, slots: Sequence[Slot]) -> None:
        """Free these slots whatever their state: their failure is to be run again, under the given generation."""

    async def sweep(self, run_id: str, epoch: int, outstanding: Sequence[Slot]) -> Sweep:
        """Look at what the orchestrator waits for; the answer names the slots that it must act on."""

    async def cancel(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        """Set the durable cancel flag of a fan-out, or of the whole run; claim and beat answer with it."""

    async def forget(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        """Drop the keys of a fan-out; without one, drop the run's and leave a tombstone for a day."""


class LedgerReader(Protocol):
    """What is looked at while a run is going on."""

    async def live(self, run_id: str, fan_out: str) -> list[LiveInstance]:
        """The queued, running and reported instances of a fan-out, by index."""

    async def reports(self, run_id: str, fan_outs: Collection[str], *, wait_seconds: float) -> list[Report]:
        """What is reported and not closed of these fan-outs; reports of others stay where they are.

        Where there is nothing, wait for a notice of these at most `wait_seconds`.
        """

    async def epoch(self, run_id: str) -> int:
        """The highest epoch that has opened the run, or forgotten it; 0 where nothing is known of it."""

    async def created_at(self, run_id: str) -> str:
        """When the run was created of which `epoch` tells, as `open` was given it; empty where nothing is known."""

    async def usage(self, run_id: str, fan_outs: Collection[str]) -> Usage:
        """How much waits to be recorded of these fan-outs, and how full the whole ledger is."""


class WorkerRegistry(Protocol):
    """Which workers are alive, and what each can run. Times are the server's."""

    def announce(self, worker: str, facts: Mapping[str, object], *, ttl_seconds: float) -> None:
        """Say that `worker` is alive for `ttl_seconds`, with facts that JSON can carry."""

    def withdraw(self, worker: str) -> None:
        """Say that `worker` has ended."""

    def workers(self) -> list[Mapping[str, object]]:
        """The facts of every live worker, with its name under `worker`."""

    def owners(self, place: str) -> list[str]:
        """Every owner that has claimed from `place` (see `Owner.place`) and was not released since."""
