"""One simulation: the deployment that a scenario describes, and what befalls it."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.execution.executor import Capacity
from orchestrator.execution.lane import Lane, Options, forget
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.identity import Slot
from orchestrator.ledger.memory import MemoryLedger
from tests.chaos.sim.broker import Broker, SimulatedExecutor
from tests.chaos.sim.clock import VirtualLoop
from tests.chaos.sim.fate import Fate
from tests.chaos.sim.gate import Gate
from tests.chaos.sim.history import History
from tests.chaos.sim.scenario import Scenario
from tests.chaos.sim.script import Script
from tests.chaos.sim.server import Server
from tests.chaos.sim.services import LedgerOfServer, Weather
from tests.chaos.sim.subject import Subject
from tests.chaos.sim.witness import Witness
from tests.chaos.sim.worker import Worker

BOUND_SECONDS = 400.0
"""A run is over so long after the last fault, or it hangs."""

AFTERMATH_SECONDS = 40.0
"""So long after the end those that were frozen may still try to write."""

LAST_LOSS_SECONDS = 60.0


class World:
    """Everything of one simulation."""

    run_id = "run"

    def __init__(self, scenario: Scenario, *, is_script_kept: bool = False) -> None:
        self.scenario = scenario
        self.rng = random.Random(f"world {scenario.seed}")
        self.loop = asyncio.get_running_loop()
        self.steps = 0
        self.faults: Counter[str] = Counter()
        self.ledger_ahead = 0.0
        self._judged: History | None = None
        self._gates: list[Gate] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.ledger = MemoryLedger(clock=self.ledger_now)
        self.script = Script(self.ledger_now, is_kept=is_script_kept)
        self.script.begin(self.ledger, by="wipe")
        self.store: Any = MemoryStore(clock=self.wall_now)
        self.ledger_weather, self.store_weather = Weather(self), Weather(self)
        self.witness = Witness(self)
        self.broker = Broker(self)
        self.subject = Subject(self)
        self.fate = Fate(self)
        self.workers: list[Worker] = []
        self.servers: list[Server] = []

    def now(self) -> float:
        return self.loop.time()

    def wall_now(self) -> datetime:
        """What the clock of the store says."""
        assert isinstance(self.loop, VirtualLoop)
        return self.loop.now()

    def ledger_now(self) -> float:
        """What the clock of the ledger's host says."""
        return self.loop.time() + self.ledger_ahead

    def kept(self, run_id: str) -> Any:
        return self.store._runs[run_id]

    def is_outer(self, fan_out: str) -> bool:
        """Whether a fan-out is nested in none."""
        return not self.kept(self.run_id).fan_outs[fan_out].key.lineage

    def is_stepped(self, fan_out: str) -> bool:
        """Whether the orchestrator steps its instances itself."""
        return self.scenario.shape == "outer" and self.is_outer(fan_out)

    def is_on_workers(self, fan_out: str) -> bool:
        """Whether its instances are dispatched to workers."""
        return self.is_outer(fan_out) != (self.scenario.shape == "outer")

    def recorded_of(self, fan_out: str) -> set[int]:
        """The indexes that the record has of a fan-out."""
        return {row.report.slot.index for row in self.kept(self.run_id).slots.latest(fan_out)}

    def kept_inside(self, slot: Slot) -> frozenset[str]:
        """The durable nodes that the record has of an instance."""
        kept = self.kept(self.run_id)
        lineage = kept.fan_outs[slot.fan_out].key.enclosing(slot.index)
        return frozenset(step.node for step in kept.steps.values() if step.lineage == lineage)

    def nonce(self, _owner: str) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    def may_lose(self) -> bool:
        return self.now() < self.loop_began + LAST_LOSS_SECONDS

    def count(self, kind: str, times: int = 1) -> None:
        if times:
            self.faults[kind] += times

    def new_gate(self) -> Gate:
        self._gates.append(Gate())
        return self._gates[-1]

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def capacity(self) -> Capacity:
        alive = [worker for worker in self.workers if not worker.child.gate.is_dead and worker.has_graph]
        return Capacity(sum(worker.slots for worker in alive), sum(worker.child.free for worker in alive))

    def die_of(self, index: int) -> None:
        """The poisoned instance kills every process that runs it."""
        for worker in self.workers:
            if worker.child.holds(index):
                self.faults["poisoned"] += 1
                self.fate.hit(worker.slots)
                worker.kill_child()

    async def live(self) -> bool:
        """Run to the end; false where the run hangs."""
        self.loop_began = self.now()
        await self._submit()
        scenario = self.scenario
        self.workers = [Worker(self, f"w{number}", scenario.slots) for number in range(scenario.workers)]
        self.servers = [Server(self, f"s{number}.1") for number in range(scenario.servers)]
        befalling = [self.spawn(self.fate.befall(fault)) for fault in scenario.faults]
        if scenario.cancel_at is not None:
            befalling.append(self.spawn(self._cancel(scenario.cancel_at)))
        await asyncio.gather(*befalling)
        is_over = await self._over()
        if is_over:
            await asyncio.sleep(AFTERMATH_SECONDS)
        return is_over

    @property
    def history(self) -> History:
        """What happened until it was judged."""
        return self._judged or self.witness.history

    def close(self) -> None:
        """What happens from now on belongs to no history any more."""
        history = self.witness.history
        self._judged = History(list(history.events), list(history.violations))
        self.script.close()

    async def end(self) -> None:
        """Send away whoever is left."""
        for gate in self._gates:
            gate.end()
        me = asyncio.current_task()
        for _ in range(100):
            others = [task for task in asyncio.all_tasks() if task is not me]
            if not others:
                return
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1)

    async def _submit(self) -> None:
        lane = Lane(ledger=self.ledger, executor=SimulatedExecutor(self, self.new_gate()))
        user = Orchestrator(self.store, lane=lane, options=Options(owner="user"))
        await user.submit(self.subject.graph, self.subject.first(), run_id=self.run_id, correlation_id="c")

    async def _cancel(self, after: float) -> None:
        await asyncio.sleep(after)
        self.witness.note("user", "fault", self.run_id, "cancel")
        self.count("cancel")
        run = await self.store.request_cancel(self.run_id)
        if run.status.is_over:
            self.count("cancel_without_owner")
            ledger: Any = LedgerOfServer(self, self.new_gate(), "user")
            await forget(Lane(ledger=ledger, executor=SimulatedExecutor(self, self.new_gate())), self.run_id, run.epoch)

    async def _over(self) -> bool:
        began = max(self.now(), self.loop_began + LAST_LOSS_SECONDS)
        while self.now() < max(began, self.fate.last_at) + BOUND_SECONDS:
            if self.kept(self.run_id).run.status.is_over:
                return True
            await asyncio.sleep(1)
        return False
