"""One case of the sweep: a row, a store, and the instance at which it crashes."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.opening import open_store
from orchestrator.errors import InstanceLost
from tests.chaos.crash.row import COUNT, Row
from tests.chaos.crash.world import RUN, World
from tests.service.postgres import PostgresServer

NUMBERS = list(range(COUNT))
FAILING = frozenset(number for number in NUMBERS if number % 10 == 3)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a case came to; `faults` says what was not as the matrix has it."""

    executions: int
    records: int
    faults: tuple[str, ...]

    def __str__(self) -> str:
        said = "ok" if not self.faults else "FAILED " + "; ".join(self.faults)
        return f"executions={self.executions} records={self.records} {said}"


def judged(row: Row, place: str, folder: Path, *, kind: str, postgres: PostgresServer | None = None) -> Verdict:
    """Run a case in an empty folder, over a store of this kind."""
    nth = row.places[place]
    with World(folder, kind=kind, postgres=postgres, crash=f"{row.point}:{nth}" if row.point else None) as world:
        world.begin(NUMBERS, graph=row.graph, processes=row.processes)
        if row.fault is not None:
            row.fault(world, nth)
        ended = world.end()
        if row.point is not None:
            world.wait_until_crashed(nth)
        recorded = recorded_of(world.store.url)
        faults = tuple(_faults(row, nth, world, ended=ended, recorded=recorded))
        return Verdict(world.deployment.executions().total(), len(recorded), faults)


def recorded_of(url: str) -> list[int]:
    """The index of every record of the run's fan-out, as often as it is recorded."""

    async def read() -> list[int]:
        store = open_store(url, namespace="rollforward")
        try:
            (row,) = await store.fan_outs(RUN)
            return [slot.report.slot.index async for slot in store.slots(RUN, row.id)]
        finally:
            await store.close()

    return asyncio.run(read())


def _faults(row: Row, nth: int, world: World, *, ended: dict[str, Any], recorded: list[int]) -> Iterator[str]:
    executions = world.deployment.executions()
    least, most = (COUNT + extra for extra in row.extra)
    if set(executions) != set(NUMBERS) or not least <= executions.total() <= most:
        yield f"executed {dict(sorted(executions.items()))}, expected {least} to {most}"
    lost = {nth - 1} if row.is_poison else set[int]()
    if row.is_poison and any(count > 1 for index, count in executions.items() if index not in lost):
        yield f"executed {dict(sorted(executions.items()))}: a neighbour was charged"
    if sorted(recorded) != NUMBERS:
        yield f"recorded {sorted(recorded)}"
    came_to, expected = _summary(ended), _undisturbed(lost)
    if came_to != expected:
        yield f"ended as {came_to}, expected {expected}"
    proof = world.deployment.command("verify", RUN, "-o", "json")
    if not proof["ok"]:
        yield f"verify says {proof}"
    left = _left_in_ledger(world)
    if left:
        yield f"left in the ledger: {left}"


def _summary(ended: dict[str, Any]) -> tuple[Any, ...]:
    """Status, squares, total, and which instances failed, with whether they were lost for good."""
    state = ended["state"]
    failed = ((int(error["fan_out_index"]), error["category"] == InstanceLost.category) for error in state["errors"])
    return ended["status"], state["squares"], state["total"], sorted(failed)


def _undisturbed(lost: set[int]) -> tuple[Any, ...]:
    """The summary of a run that nothing befell, but for instances that are lost for good."""
    squares = [number**2 for number in NUMBERS if number not in FAILING | lost]
    return "succeeded", squares, sum(squares), [(number, number in lost) for number in sorted(FAILING | lost)]


def _left_in_ledger(world: World) -> list[str]:
    """The keys of the run beyond its tombstone."""
    with world.redis.client() as client:
        keys = sorted(key.decode() for key in client.keys(f"rollforward:run:{{{RUN}}}:*"))
    return [key for key in keys if not key.endswith(":tombstone")]
