"""A broker that loses, doubles, delays and so reorders messages, and the executor that publishes to it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerUnavailable
from orchestrator.execution.executor import Capacity, Hint
from orchestrator.identity import Slot
from tests.chaos.sim.gate import Gate

if TYPE_CHECKING:
    from tests.chaos.sim.world import World


class Broker:
    """One queue of hints."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.queue: asyncio.Queue[Hint] = asyncio.Queue()
        self.away_until = 0.0

    @property
    def is_away(self) -> bool:
        return self._world.now() < self.away_until

    def publish(self, hint: Hint) -> None:
        scenario, rng = self._world.scenario, self._world.rng
        if rng.random() < scenario.lost and self._world.may_lose():
            self._world.count("message_lost")
            return
        copies = 2 if rng.random() < scenario.doubled else 1
        self._world.count("message_doubled", copies - 1)
        for _ in range(copies):
            is_late = rng.random() < scenario.late
            self._world.count("message_late", int(is_late))
            delay = rng.uniform(0.5, 30) if is_late else rng.uniform(0.001, 0.02)
            asyncio.get_running_loop().call_later(delay, self.queue.put_nowait, hint)


class SimulatedExecutor:
    """One server's way to the broker."""

    def __init__(self, world: "World", gate: Gate) -> None:
        self._world = world
        self._gate = gate

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        await self._gate.passing()
        await self._world.fate.spring("dispatch", self._gate, is_before=True)
        # Where it is away, some of them may have been passed on before.
        passed = self._world.rng.randint(0, len(hints) - 1) if self._world.broker.is_away else len(hints)
        for hint in hints[:passed]:
            slot = Slot(hint.fan_out, hint.index, hint.generation)
            if slot not in self._world.witness.queued:
                self._world.witness.history.blame("queued before published", str(slot), "published only")
            self._world.broker.publish(hint)
        if passed < len(hints):
            self._world.count("publish_refused")
            raise BrokerUnavailable("simulated: it cannot be reached")
        await self._world.fate.spring("dispatch", self._gate, is_before=False)

    async def capacity(self, _graph: str, _fingerprint: str) -> Capacity:
        return self._world.capacity()

    async def cancel(self, _run_id: str, _fan_out: str | None = None) -> None:
        """Workers learn it from the ledger."""

    async def close(self) -> None:
        """Nothing is held."""
