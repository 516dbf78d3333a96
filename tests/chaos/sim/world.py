"""One simulation: the deployment that a scenario describes, and what befalls it."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.execution.executor import Capacity
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.fan_out import dispatch, recorder, stopping, sweeping
from orchestrator.ledger.entry import RunEntries
from orchestrator.ledger.memory import MemoryLedger
from tests.chaos.sim.broker import Broker, SimulatedExecutor
from tests.chaos.sim.clock import VirtualLoop
from tests.chaos.sim.gate import Gate
from tests.chaos.sim.scenario import Fault, Scenario
from tests.chaos.sim.server import Server
from tests.chaos.sim.services import Weather
from tests.chaos.sim.subject import Subject
from tests.chaos.sim.witness import Granted, Witness
from tests.chaos.sim.worker import Worker

BOUND_SECONDS = 400.0
"""A run is over so long after the last fault, or it hangs."""

AFTERMATH_SECONDS = 40.0
"""So long after the end those that were frozen may still try to write."""

LAST_LOSS_SECONDS = 60.0


class World:
    """Everything of one simulation."""

    run_id = "run"

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = random.Random(f"world {scenario.seed}")
        self.loop = asyncio.get_running_loop()
        self.steps = 0
        self.faults: Counter[str] = Counter()
        self.extra = 0
        self.deaths_of: Counter[int] = Counter()
        self._gates: list[Gate] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.ledger = MemoryLedger(clock=self.now)
        assert isinstance(self.loop, VirtualLoop)
        self.store: Any = MemoryStore(clock=self.loop.now)
        self.ledger_weather, self.store_weather = Weather(self), Weather(self)
        self.witness = Witness(self)
        self.broker = Broker(self)
        self.subject = Subject(self)
        self.forgotten_at = 0.0
        self.last_fault_at = self.now()
        self.workers: list[Worker] = []
        self.servers: list[Server] = []

    def now(self) -> float:
        return self.loop.time()

    def kept(self, run_id: str) -> Any:
        return self.store._runs[run_id]

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
        alive = [worker for worker in self.workers if not worker.child.gate.is_dead]
        return Capacity(sum(worker.slots for worker in alive), sum(worker.child.free for worker in alive))

    def die_of(self, index: int) -> None:
        """The poisoned instance kills every process that runs it."""
        for worker in self.workers:
            if worker.child.holds(index):
                self.faults["poisoned"] += 1
                self._hit(worker.slots)
                worker.kill_child()

    async def live(self) -> bool:
        """Run to the end; false where the run hangs."""
        self.loop_began = self.now()
        await self._submit()
        scenario = self.scenario
        self.workers = [Worker(self, f"w{number}", scenario.slots) for number in range(scenario.workers)]
        self.servers = [Server(self, f"s{number}.1") for number in range(scenario.servers)]
        befalling = [self.spawn(self._befall(fault)) for fault in scenario.faults]
        if scenario.cancel_at is not None:
            befalling.append(self.spawn(self._cancel(scenario.cancel_at)))
        await asyncio.gather(*befalling)
        is_over = await self._over()
        if is_over:
            await asyncio.sleep(AFTERMATH_SECONDS)
        return is_over

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
            await self.ledger.forget(self.run_id, run.epoch)

    async def _over(self) -> bool:
        until = max(self.now(), self.last_fault_at, self.loop_began + LAST_LOSS_SECONDS) + BOUND_SECONDS
        while self.now() < until:
            if self.kept(self.run_id).run.status.is_over:
                return True
            await asyncio.sleep(1)
        return False

    def _hit(self, executions: int) -> None:
        self.extra += executions
        self.last_fault_at = self.now()

    async def _befall(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        self.count(fault.kind)
        self.witness.note("world", "fault", self.run_id, f"{fault.kind} {fault.pick} for {fault.seconds:.1f} s")
        await getattr(self, f"_{fault.kind}")(fault)
        self.last_fault_at = self.now()

    def _worker(self, fault: Fault) -> Worker:
        worker = self.workers[fault.pick % len(self.workers)]
        self._hit(worker.slots)
        return worker

    async def _kill_child(self, fault: Fault) -> None:
        self._worker(fault).kill_child()

    async def _lose_host(self, fault: Fault) -> None:
        self._worker(fault).lose_host()

    async def _freeze_worker(self, fault: Fault) -> None:
        await self._worker(fault).freeze(fault.seconds)

    async def _partition_worker(self, fault: Fault) -> None:
        await self._worker(fault).partition(fault.seconds)

    async def _kill_server(self, fault: Fault) -> None:
        place = fault.pick % len(self.servers)
        dead = self.servers[place]
        if not dead.gate.is_dead:
            dead.kill()
            await asyncio.sleep(fault.seconds)
            name, _, number = dead.name.partition(".")
            self.servers[place] = Server(self, f"{name}.{int(number) + 1}")

    async def _freeze_server(self, fault: Fault) -> None:
        await self.servers[fault.pick % len(self.servers)].freeze(fault.seconds)

    async def _wipe(self, _fault: Fault) -> None:
        self._replace_ledger(MemoryLedger(clock=self.now), Granted())

    async def _rollback(self, fault: Fault) -> None:
        snapshot, granted = self._snapshot(), self.witness.granted.copy()
        await asyncio.sleep(min(fault.seconds, 5))
        self._replace_ledger(snapshot, granted)

    def _replace_ledger(self, ledger: MemoryLedger, granted: Granted) -> None:
        self.witness.note("world", "fault", self.run_id, "the ledger is replaced")
        self.ledger, self.witness.granted = ledger, granted
        self.forgotten_at = self.now()
        self._hit(self.scenario.count)

    def _snapshot(self) -> MemoryLedger:
        copied = MemoryLedger(clock=self.now)
        for run_id, run in self.ledger._runs.items():
            told = RunEntries(run.epoch, deepcopy(run.fan_outs), dict(run.reported), run.cancelled_in)
            copied._runs[run_id] = told
        copied._tombstones = dict(self.ledger._tombstones)
        copied._runs_of_owner.update({owner: set(runs) for owner, runs in self.ledger._runs_of_owner.items()})
        return copied

    async def _ledger_away(self, fault: Fault) -> None:
        await self._spell(self.ledger_weather, "away_until", fault, executions=self.scenario.count)

    async def _ledger_refuses(self, fault: Fault) -> None:
        await self._spell(self.ledger_weather, "refuses_until", fault, executions=self.scenario.count)

    async def _ledger_replies_lost(self, fault: Fault) -> None:
        await self._spell(self.ledger_weather, "mute_until", fault, executions=self.scenario.count)

    async def _store_away(self, fault: Fault) -> None:
        await self._spell(self.store_weather, "away_until", fault)

    async def _store_refuses(self, fault: Fault) -> None:
        await self._spell(self.store_weather, "refuses_until", fault)

    async def _store_replies_lost(self, fault: Fault) -> None:
        await self._spell(self.store_weather, "mute_until", fault)

    async def _spell(self, weather: Weather, what: str, fault: Fault, *, executions: int = 0) -> None:
        self._hit(executions)
        setattr(weather, what, max(getattr(weather, what), self.now() + fault.seconds))
        await asyncio.sleep(fault.seconds)


@contextlib.contextmanager
def on_virtual_time(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let the orchestrator's own clock be the simulation's."""
    clock = SimpleNamespace(monotonic=loop.time)
    with contextlib.ExitStack() as stack:
        for module in (dispatch, recorder, stopping, sweeping):
            stack.enter_context(patch.object(module, "time", clock))
        yield
