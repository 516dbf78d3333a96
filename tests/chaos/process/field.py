"""A deployment under faults: who is hit, what was seen of it, and how long it took until the work went on."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psutil

from orchestrator.checkpoint.row import Run
from tests.chaos.process.deployment import Deployment, NotWithin, driven_by
from tests.chaos.process.history import Execution, Place
from tests.chaos.process.member import Member
from tests.chaos.process.snapshot import Snapshots

WITHIN_SECONDS = 150.0
"""So long is waited until the work goes on after a fault; it is hung then."""
SNAPSHOT_SECONDS = 2.0
FRESH = 0.4
"""An execution is hit in the first part of its time, so that it does not end meanwhile."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done, from when until when, and to whom.

    `pids` are the processes whose executions it made void; `is_global` where it may be any. `detected` is how many
    seconds it took until the work went on, None where nothing was at work there.
    """

    kind: str
    at: float
    until: float
    pids: frozenset[int] = frozenset()
    is_global: bool = False
    detected: float | None = None
    is_alone: bool = True


class Field:
    """The deployment, the faults so far, and what was wrong while it went on."""

    def __init__(self, deployment: Deployment, *, seed: int) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)
        self.faults: list[Fault] = []
        self.wrong: list[str] = []
        self.redis_lock = asyncio.Lock()
        self.snapshots = Snapshots()
        self._taken: set[Member] = set()
        self._hit: set[Place] = set()
        self._workers: dict[int, Member] = {}

    @asynccontextmanager
    async def victim(self, *, only: Member | None = None) -> AsyncIterator[tuple[Member, Execution]]:
        """A worker in the middle of an instance that no fault has hit before; nobody else's until the end of this."""
        take = partial(self._take_busy, only)
        worker, execution = await self.until(take, what="a worker is in the middle of an instance")
        try:
            yield worker, execution
        finally:
            self._taken.discard(worker)

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[Member]:
        """An orchestrator that drives a run; nobody else's until the end of this."""
        orchestrator = await self.until(self._take_owner, what="an orchestrator drives a run")
        try:
            yield orchestrator
        finally:
            self._taken.discard(orchestrator)

    def hit(self, pids: Collection[int], *, killed: bool = False) -> set[Place]:
        """The instances that these processes are, or were when killed, in the middle of; they are not hit again."""
        places = {one.place for one in self.deployment.history.read().going_on() if one.pid in pids}
        self._hit |= places
        if killed:
            self.deployment.history.bury(pids)
        return places

    def blame(self, what: str) -> None:
        """Keep what is wrong, and say it at once."""
        self.wrong.append(what)
        sys.stderr.write(f"{what}\n")

    async def until_begun_again(self, places: Iterable[Place], at: float) -> float | None:
        """Wait until each is begun again; how long that took from then on, for the last of them."""
        waiting = set(places)
        if not waiting:
            return None
        await self.until(
            lambda: self._all(self._begun(place, at) for place in waiting), what=f"{sorted(waiting)} begin again"
        )
        begun = (self.deployment.history.begun_after(place, at) for place in waiting)
        return max(moment for moment in begun if moment is not None) - at

    async def until_all_work(self, at: float) -> float:
        """Wait until every worker has begun an instance; how long that took from then on, for the last of them."""
        first: dict[Member, float] = {}

        async def all_work() -> bool:
            for execution in self.deployment.history.read().executions[-200:]:
                worker = self._worker_of(execution.pid) if execution.began > at else None
                if worker is not None:
                    first.setdefault(worker, execution.began)
            missing = set(self.deployment.workers) - self._taken - set(first)
            return not missing

        await self.until(all_work, what="every worker works")
        return max(first.values()) - at

    async def until_taken_over(self, orchestrator_pid: int, before: dict[str, Run], at: float) -> float | None:
        """Wait until others own what an orchestrator drove; how long that took from then on, for the last of them."""
        waiting = {run_id: run.epoch for run_id, run in before.items() if driven_by(run) == orchestrator_pid}
        if not waiting:
            return None
        last = at
        while waiting:
            last = await self.until(lambda: self._first_taken_over(waiting), what=f"{sorted(waiting)} are taken over")
        return last - at

    async def until(self, condition: Callable[[], Awaitable[T | None]], *, what: str) -> T:
        """Wait for what a fault must come to; where it does not come, that is wrong."""
        try:
            return await self.deployment.until(condition, what=what, seconds=WITHIN_SECONDS)
        except NotWithin as error:
            self.blame(str(error))
            raise

    async def watch(self) -> None:
        """Look, until this is cancelled, at what is recorded, and for processes that end by themselves."""
        while True:
            await self.look()
            await asyncio.sleep(SNAPSHOT_SECONDS)

    async def look(self) -> None:
        """Look once."""
        for member in (*self.deployment.workers, *self.deployment.orchestrators):
            if member.is_there and member.exit_code is not None:
                self.blame(f"{member.name} ended by itself with {member.exit_code}: {member.tail()[-400:]}")
                member.start()
        for run_id in await self.deployment.going_on():
            changed = await self.deployment.asked(partial(self.snapshots.take, self.deployment.store, run_id))
            for what in changed:
                self.blame(what)

    async def _take_busy(self, only: Member | None) -> tuple[Member, Execution] | None:
        latest = time.monotonic() - FRESH * self.deployment.size.seconds
        for execution in self.deployment.history.read().going_on():
            worker = self._worker_of(execution.pid)
            is_free = worker is not None and worker not in self._taken and only in {None, worker}
            if execution.began > latest and worker and is_free and execution.place not in self._hit:
                self._taken.add(worker)
                return worker, execution
        return None

    async def _take_owner(self) -> Member | None:
        owners = {driven_by(run) for run in (await self.deployment.going_on()).values()}
        free = [one for one in self.deployment.orchestrators if one.is_there and one not in self._taken]
        owning = [one for one in free if one.pid in owners]
        if not owning:
            return None
        chosen = self.random.choice(owning)
        self._taken.add(chosen)
        return chosen

    async def _first_taken_over(self, waiting: dict[str, int]) -> float | None:
        for run_id, epoch in list(waiting.items()):
            run = await self.deployment.asked(partial(self.deployment.store.find, run_id))
            if run.epoch > epoch or run.status.has_ended:
                del waiting[run_id]
                return time.monotonic()
        return None

    async def _begun(self, place: Place, at: float) -> bool:
        return self.deployment.history.read().begun_after(place, at) is not None

    async def _all(self, conditions: Iterable[Awaitable[bool]]) -> bool:
        return all([await condition for condition in conditions])

    def _worker_of(self, pid: int) -> Member | None:
        if pid not in self._workers:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(pid).ppid()
                for worker in self.deployment.workers:
                    if worker.is_there and worker.pid == parent:
                        self._workers[pid] = worker
        return self._workers.get(pid)
