"""A worker as `recording.md` has it: claim, run, beat, keep progress, report until it is taken or stale."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.context import Cancellation
from orchestrator.errors import LedgerUnavailable
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.executor import Hint
from orchestrator.identity import Slot
from orchestrator.instance.reporting import never_begun
from orchestrator.instance.run import run_instance
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Beat, Claimed, Held
from tests.chaos.sim.services import LedgerOfWorker

if TYPE_CHECKING:
    from orchestrator.report import Report
    from tests.chaos.sim.gate import Gate
    from tests.chaos.sim.world import World

LEASE_SECONDS = 15.0
HEARTBEAT_SECONDS = 5.0


class Lease:
    """A claim that a child works on."""

    def __init__(self, work: Claimed) -> None:
        self.work = work
        self.cancellation = Cancellation()
        self.is_lost = False
        self.running: asyncio.Task[Report] | None = None

    @property
    def held(self) -> Held:
        return Held(self.work.slot, self.work.token)

    def stop(self, beat: Beat) -> None:
        """Stop the work; what a lost one comes to is not wanted any more."""
        self.is_lost = self.is_lost or beat is Beat.LOST
        if not self.cancellation.is_requested:
            self.cancellation.request(beat.value)
            if self.running is not None:
                self.running.cancel()


class Child:
    """One process of a worker; `slots` instances run in it at once."""

    def __init__(self, world: "World", name: str, slots: int, *, has_graph: Callable[[], bool]) -> None:
        self.gate = world.new_gate()
        self.owner = name
        self._has_graph = has_graph
        self.ledger = LedgerOfWorker(world, self.gate, name)
        self._world = world
        self._slots = slots
        self._leases: dict[str, Lease] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._places = asyncio.Semaphore(slots)
        self._pulling = self._spawn(self._pull())
        self._spawn(self._beat())

    @property
    def free(self) -> int:
        return self._slots - len(self._leases) if self.gate.is_open else 0

    def holds(self, index: int) -> bool:
        return any(lease.work.slot.index == index for lease in self._leases.values())

    def die(self) -> None:
        self.gate.kill()
        for task in list(self._tasks):
            task.cancel()

    def hand_back(self) -> None:
        """Take nothing more, and give others what it has not finished; meanwhile it works on."""
        self._pulling.cancel()
        self._spawn(self.ledger.insist("release", self.owner, has_died=False))

    def _spawn(self, coroutine: Any) -> "asyncio.Task[Any]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _pull(self) -> None:
        while True:
            await self._places.acquire()
            hint = await self._world.broker.queue.get()
            await self.gate.passing()
            self._spawn(self._deliver(hint))

    async def _deliver(self, hint: Hint) -> None:
        try:
            await self._take(hint)
        finally:
            self._places.release()

    async def _take(self, hint: Hint) -> None:
        slot, token = Slot(hint.fan_out, hint.index, hint.generation), self._world.nonce(self.owner)
        insist = self.ledger.insist
        if not self._has_graph():
            self._world.count("declined")
            await insist("decline", hint.run_id, [slot], worker=self.owner, reason="no such graph")
            return
        [answer] = await insist("claim", hint.run_id, [slot], owner=self.owner, token=token, ttl_seconds=LEASE_SECONDS)
        if answer.claimed is None:
            return
        lease = Lease(answer.claimed)
        self._leases[token] = lease
        try:
            text = await insist("briefing", hint.run_id, slot.fan_out)
            if text is not None:
                await self._run(lease, Briefing.from_json(text))
        finally:
            self._leases.pop(token, None)

    async def _run(self, lease: Lease, briefing: Briefing) -> None:
        runtime = Runtime(worker=self.owner, find=lambda *_: self._world.subject.graph, keep=self._keep)
        self._world.witness.executions += 1
        self._world.witness.note(self.owner, "run", lease.work.slot, lease.work.token)
        lease.running = self._spawn(run_instance(lease.work, briefing, runtime, lease.cancellation))
        if lease.cancellation.is_requested:
            lease.running.cancel()
        try:
            done = await lease.running
        except asyncio.CancelledError:
            if not lease.cancellation.is_requested or self.gate.is_dead:
                raise
            done = never_begun(lease.work, briefing, runtime)
        await self.ledger.insist("report", lease.work.run_id, [done], unless=lambda: lease.is_lost)

    async def _keep(self, run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        return bool(await self.ledger.call("progress", run_id, held, entries))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for lease in list(self._leases.values()):
                await self._beat_one(lease)

    async def _beat_one(self, lease: Lease) -> None:
        try:
            [answer] = await self.ledger.call("beat", lease.work.run_id, [lease.held], ttl_seconds=LEASE_SECONDS)
        except LedgerUnavailable:
            return
        if answer is not Beat.OK:
            lease.stop(answer)


class Worker:
    """A host with one child at a time, and the parent that looks after it."""

    def __init__(self, world: "World", name: str, slots: int) -> None:
        self.slots = slots
        self.other_code_until = 0.0
        self._world = world
        self._name = name
        self._born = 0
        self._gate: Gate = world.new_gate()
        self._parent = LedgerOfWorker(world, self._gate, f"{name}.parent")
        self.child = self._new_child()

    @property
    def has_graph(self) -> bool:
        return self._world.now() >= self.other_code_until

    def kill_child(self) -> None:
        """The parent sees it and releases what the child held."""
        if not self.child.gate.is_dead:
            dead = self.child
            dead.die()
            self._world.spawn(self._succeed(dead, self._world.rng.uniform(1, 5), releases=True))

    def lose_host(self) -> None:
        """Nobody releases anything; another host comes up later."""
        if not self.child.gate.is_dead:
            self.child.die()
            self._world.spawn(self._succeed(self.child, self._world.rng.uniform(5, 40), releases=False))

    async def shut_down(self, seconds: float) -> None:
        """As a warm shutdown whose patience ends: what is unfinished is handed back, and soon the process is gone."""
        child = self.child
        child.hand_back()
        await asyncio.sleep(seconds)
        if child is self.child:
            self.kill_child()

    async def freeze(self, seconds: float) -> None:
        child = self.child
        child.gate.freeze()
        await asyncio.sleep(seconds)
        child.gate.thaw()

    async def partition(self, seconds: float) -> None:
        lines = (self.child.ledger.line, self._parent.line)
        for line in lines:
            line.is_cut = True
        await asyncio.sleep(seconds)
        for line in lines:
            line.is_cut = False

    async def _succeed(self, dead: Child, seconds: float, *, releases: bool) -> None:
        await asyncio.sleep(seconds)
        if releases:
            await self._parent.insist("release", dead.owner, has_died=True)
        self.child = self._new_child()

    def _new_child(self) -> Child:
        self._born += 1
        return Child(self._world, f"{self._name}.{self._born}", self.slots, has_graph=lambda: self.has_graph)
