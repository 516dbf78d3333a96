"""What befalls a simulated deployment: faults at their times, and ambushes at steps that a process takes."""

import asyncio
from collections import Counter
from copy import deepcopy
from itertools import count
from typing import TYPE_CHECKING

from orchestrator.ledger.entry import RunEntries
from orchestrator.ledger.memory import MemoryLedger
from tests.chaos.sim.gate import Gate
from tests.chaos.sim.granted import Granted
from tests.chaos.sim.scenario import Ambush, Fault
from tests.chaos.sim.server import Server

if TYPE_CHECKING:
    from tests.chaos.sim.services import Weather
    from tests.chaos.sim.worker import Worker
    from tests.chaos.sim.world import World


class Fate:
    """Strikes one world; `extra` is how many executions it may have cost, `last_at` when it struck last."""

    def __init__(self, world: "World") -> None:
        self.extra = 0
        self.last_at = world.now()
        self.losses = 0
        self._world = world
        self._waiting = list(world.scenario.ambushes)
        self._seen: Counter[int] = Counter()
        self._snapshots = count()

    def hit(self, executions: int) -> None:
        """Something has happened that may make so many instances run once more."""
        self.extra += executions
        self.last_at = self._world.now()

    async def befall(self, fault: Fault) -> None:
        world = self._world
        await asyncio.sleep(fault.at)
        world.count(fault.kind)
        world.witness.note("world", "fault", world.run_id, f"{fault.kind} {fault.pick} for {fault.seconds:.1f} s")
        await getattr(self, f"_{fault.kind}")(fault)
        self.last_at = world.now()

    async def spring(self, step: str, gate: Gate, *, is_before: bool) -> None:
        """Let the ambush happen that waits for this step of this process, if there is one."""
        for ambush in [one for one in self._waiting if one.step == step and one.is_before is is_before]:
            if not self._is_met(ambush, gate):
                continue
            self._waiting.remove(ambush)
            what = f"{'kill' if ambush.is_kill else 'freeze'}_{'before' if is_before else 'after'}_step"
            self._world.count(what)
            self._world.witness.note("world", "fault", self._world.run_id, f"{what} {step} for {ambush.seconds:.1f} s")
            self._strike(ambush, gate)
        await gate.passing()

    def _is_met(self, ambush: Ambush, gate: Gate) -> bool:
        if ambush.is_server is not any(server.gate is gate for server in self._world.servers):
            return False
        self._seen[id(ambush)] += 1
        return self._seen[id(ambush)] >= ambush.nth

    def _strike(self, ambush: Ambush, gate: Gate) -> None:
        world = self._world
        self.hit(0 if ambush.is_server else world.scenario.slots)
        if not ambush.is_kill:
            gate.freeze()
            asyncio.get_running_loop().call_later(ambush.seconds, self._thaw, gate)
        elif ambush.is_server:
            place = next(place for place, server in enumerate(world.servers) if server.gate is gate)
            world.spawn(self._replace(place, ambush.seconds))
        else:
            self.losses += 1
            for worker in [one for one in world.workers if one.child.gate is gate]:
                worker.kill_child()

    def _thaw(self, gate: Gate) -> None:
        gate.thaw()
        self.last_at = self._world.now()

    def _worker(self, fault: Fault) -> "Worker":
        worker = self._world.workers[fault.pick % len(self._world.workers)]
        self.losses += 1
        self.hit(worker.slots)
        return worker

    async def _kill_child(self, fault: Fault) -> None:
        self._worker(fault).kill_child()

    async def _lose_host(self, fault: Fault) -> None:
        self._worker(fault).lose_host()

    async def _freeze_worker(self, fault: Fault) -> None:
        await self._worker(fault).freeze(fault.seconds)

    async def _partition_worker(self, fault: Fault) -> None:
        await self._worker(fault).partition(fault.seconds)

    async def _shut_worker_down(self, fault: Fault) -> None:
        await self._worker(fault).shut_down(min(fault.seconds, 10))

    async def _other_code(self, fault: Fault) -> None:
        worker = self._world.workers[fault.pick % len(self._world.workers)]
        worker.other_code_until = self._world.now() + fault.seconds
        await asyncio.sleep(fault.seconds)

    async def _kill_server(self, fault: Fault) -> None:
        await self._replace(fault.pick % len(self._world.servers), fault.seconds)

    async def _replace(self, place: int, seconds: float) -> None:
        dead = self._world.servers[place]
        if not dead.gate.is_dead:
            dead.kill()
            await asyncio.sleep(seconds)
            name, _, number = dead.name.partition(".")
            self._world.servers[place] = Server(self._world, f"{name}.{int(number) + 1}")

    async def _freeze_server(self, fault: Fault) -> None:
        await self._world.servers[fault.pick % len(self._world.servers)].freeze(fault.seconds)

    async def _broker_away(self, fault: Fault) -> None:
        self._world.broker.away_until = self._world.now() + fault.seconds
        await asyncio.sleep(fault.seconds)

    async def _clock_step(self, fault: Fault) -> None:
        """The clock of the ledger's host is set forwards; a ledger in memory counts on that it never goes back."""
        self._world.ledger_ahead += 2 * fault.seconds
        self.losses += 1
        self.hit(self._world.scenario.count)

    async def _wipe(self, _fault: Fault) -> None:
        self._replace_ledger(MemoryLedger(clock=self._world.ledger_now), Granted(), by="wipe")

    async def _rollback(self, fault: Fault) -> None:
        snapshot, granted = self._snapshot(), self._world.witness.granted.copy()
        name = f"{next(self._snapshots)}"
        self._world.script.act(f"snapshot {name}")
        await asyncio.sleep(min(fault.seconds, 5))
        self._replace_ledger(snapshot, granted, by=f"rollback {name}")

    def _replace_ledger(self, ledger: MemoryLedger, granted: Granted, *, by: str) -> None:
        world = self._world
        world.witness.note("world", "fault", world.run_id, "the ledger is replaced")
        world.ledger, world.witness.granted = ledger, granted
        world.script.begin(ledger, by=by)
        self.losses += 1
        self.hit(world.scenario.count)

    def _snapshot(self) -> MemoryLedger:
        world = self._world
        copied = MemoryLedger(clock=world.ledger_now)
        for run_id, run in world.ledger._runs.items():
            told = RunEntries(run.epoch, deepcopy(run.fan_outs), dict(run.reported), run.cancelled_in, run.created_at)
            copied._runs[run_id] = told
        copied._tombstones = dict(world.ledger._tombstones)
        copied._runs_of_owner.update({owner: set(runs) for owner, runs in world.ledger._runs_of_owner.items()})
        return copied

    async def _ledger_away(self, fault: Fault) -> None:
        scenario = self._world.scenario
        executions = 0 if scenario.only_misses_its_ledger else scenario.count
        await self._spell(self._world.ledger_weather, "away_until", fault, executions=executions)

    async def _ledger_refuses(self, fault: Fault) -> None:
        await self._spell(self._world.ledger_weather, "refuses_until", fault, executions=self._world.scenario.count)

    async def _ledger_replies_lost(self, fault: Fault) -> None:
        await self._spell(self._world.ledger_weather, "mute_until", fault, executions=self._world.scenario.count)

    async def _store_away(self, fault: Fault) -> None:
        await self._spell(self._world.store_weather, "away_until", fault)

    async def _store_refuses(self, fault: Fault) -> None:
        await self._spell(self._world.store_weather, "refuses_until", fault)

    async def _store_replies_lost(self, fault: Fault) -> None:
        await self._spell(self._world.store_weather, "mute_until", fault)

    async def _spell(self, weather: "Weather", what: str, fault: Fault, *, executions: int = 0) -> None:
        self.losses += bool(executions)
        self.hit(executions)
        setattr(weather, what, max(getattr(weather, what), self._world.now() + fault.seconds))
        await asyncio.sleep(fault.seconds)
