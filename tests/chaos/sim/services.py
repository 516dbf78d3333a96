"""The ledger and the store as a simulated process reaches them: late, now and then not at all, or without an answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from orchestrator.errors import CheckpointUnavailable, LedgerUnavailable, RollforwardError
from tests.chaos.sim.gate import Gate

if TYPE_CHECKING:
    from tests.chaos.sim.world import World

READS = frozenset({"live", "told", "epoch", "created_at", "usage"})


class Weather:
    """What is wrong with one service at the moment."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.away_until = 0.0
        self.refuses_until = 0.0
        self.mute_until = 0.0

    def is_refusing(self) -> bool:
        now = self._world.now()
        return now < self.away_until or (now < self.refuses_until and self._world.rng.random() < 0.4)

    def loses_reply(self) -> bool:
        return self._world.now() < self.mute_until and self._world.rng.random() < 0.4


class Line:
    """One process's way to one service."""

    def __init__(self, world: "World", gate: Gate, actor: str, *, weather: Weather, error: Callable[[str], Exception]):
        self.actor = actor
        self.world = world
        self.is_cut = False
        self._gate = gate
        self._weather = weather
        self._error = error

    async def there(self, verb: str) -> None:
        await self._gate.passing()
        await self.world.fate.spring(verb, self._gate, is_before=True)
        await asyncio.sleep(self.world.rng.uniform(0.0002, 0.004))
        await self._gate.passing()
        self.world.steps += 1
        if self.is_cut or self._weather.is_refusing():
            raise self._error("simulated: it cannot be reached")

    async def back(self, verb: str) -> None:
        await self.world.fate.spring(verb, self._gate, is_before=False)
        await asyncio.sleep(self.world.rng.uniform(0.0002, 0.004))
        await self._gate.passing()
        if self.is_cut or self._weather.loses_reply():
            raise self._error("simulated: the reply was lost")


class LedgerOfWorker:
    """The worker's verbs; awaited here, where a real worker has a thread."""

    def __init__(self, world: "World", gate: Gate, actor: str) -> None:
        self.line = Line(world, gate, actor, weather=world.ledger_weather, error=LedgerUnavailable)

    async def call(self, verb: str, *args: Any, **named: Any) -> Any:
        await self.line.there(verb)
        world = self.line.world
        answer = getattr(world.ledger, verb)(*args, **named)
        world.script.note(self.line.actor, verb, args, named, answer)
        world.witness.ledger(self.line.actor, verb, args, named, answer)
        await self.line.back(verb)
        return answer

    async def insist(self, verb: str, *args: Any, unless: Callable[[], bool] = lambda: False, **named: Any) -> Any:
        """Make a call until it is answered, or its answer is not wanted any more."""
        while not unless():
            try:
                return await self.call(verb, *args, **named)
            except LedgerUnavailable:
                await asyncio.sleep(self.line.world.rng.uniform(0.1, 1))
        return None


class LedgerOfServer:
    """The orchestrator's verbs and the reader's."""

    def __init__(self, world: "World", gate: Gate, actor: str) -> None:
        self.line = Line(world, gate, actor, weather=world.ledger_weather, error=LedgerUnavailable)

    def __getattr__(self, verb: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            await self.line.there(verb)
            answer = await self._act(verb, args, named)
            if verb not in READS:
                self.line.world.witness.ledger(self.line.actor, verb, args, named, answer)
            await self.line.back(verb)
            return answer

        return call

    async def reports(self, run_id: str, fan_outs: Any, *, wait_seconds: float) -> Any:
        await self.line.there("reports")
        ledger = self.line.world.ledger
        answer = await self._act("reports", (run_id, fan_outs), {"wait_seconds": wait_seconds})
        await self.line.there("heard")
        if ledger is not self.line.world.ledger:
            answer = await self._act("reports", (run_id, fan_outs), {"wait_seconds": 0})
        return answer

    async def _act(self, verb: str, args: Any, named: Any) -> Any:
        world = self.line.world
        ledger = world.ledger
        try:
            answer = await getattr(ledger, verb)(*args, **named)
        except RollforwardError as error:
            world.script.note(self.line.actor, verb, args, named, type(error), ledger=ledger)
            raise
        world.script.note(self.line.actor, verb, args, named, answer, ledger=ledger)
        return answer


class StoreOfServer:
    """The checkpoint store."""

    def __init__(self, world: "World", gate: Gate, actor: str) -> None:
        self.line = Line(world, gate, actor, weather=world.store_weather, error=CheckpointUnavailable)

    def __getattr__(self, verb: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            await self.line.there(verb)
            world = self.line.world
            answer = await getattr(world.store, verb)(*args, **named)
            world.witness.store(self.line.actor, verb, args, answer)
            await self.line.back(verb)
            return answer

        return call

    async def slots(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        await self.line.there("slots")
        async for row in self.line.world.store.slots(*args, **named):
            yield row

    async def errors(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        await self.line.there("errors")
        async for row in self.line.world.store.errors(*args, **named):
            yield row
