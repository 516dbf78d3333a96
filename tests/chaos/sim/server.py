"""An orchestrator process: takes up what waits, as `rollforward serve` does, and drives it with the product's code."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.row import RunFilter, RunStatus
from orchestrator.errors import OperatorError, RollforwardError
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.orchestrator import Orchestrator
from tests.chaos.sim.broker import SimulatedExecutor
from tests.chaos.sim.services import LedgerOfServer, StoreOfServer

if TYPE_CHECKING:
    from tests.chaos.sim.world import World

# Who waits for a failed run resumes it.
_WAITING = frozenset((RunStatus.SUBMITTED, RunStatus.ORPHANED, RunStatus.FAILED))


class Server:
    """One process."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.gate = world.new_gate()
        self._world = world
        self._store: Any = StoreOfServer(world, self.gate, name)
        ledger: Any = LedgerOfServer(world, self.gate, name)
        lane = Lane(ledger=ledger, executor=SimulatedExecutor(world, self.gate))
        self._orchestrator = Orchestrator(self._store, lane=lane, options=Options(owner=name))
        self._driving: asyncio.Task[Any] | None = None
        self._serving = world.spawn(self._serve())

    def kill(self) -> None:
        self.gate.kill()
        self._serving.cancel()

    async def freeze(self, seconds: float) -> None:
        self.gate.freeze()
        await asyncio.sleep(seconds)
        self.gate.thaw()

    async def _serve(self) -> None:
        while True:
            with contextlib.suppress(OperatorError):
                for run in await self._store.list_runs(RunFilter(statuses=_WAITING)):
                    await self._take(run.run_id)
            await asyncio.sleep(1)

    async def _take(self, run_id: str) -> None:
        if self._driving is not None and not self._driving.done():
            return
        with contextlib.suppress(RollforwardError):
            handle = await self._orchestrator.start(run_id, self._world.subject.graph)
            self._driving = self._world.spawn(self._driven(handle))

    async def _driven(self, handle: Any) -> None:
        with contextlib.suppress(RollforwardError):
            await handle.result()
