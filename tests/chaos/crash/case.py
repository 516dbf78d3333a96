"""One case of the sweep: a row, a store, and the instance at which it crashes."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.opening import open_store
from tests.chaos.crash.row import COUNT, Row
from tests.chaos.crash.world import RUN, World

NUMBERS = list(range(COUNT))
SQUARES = [number**2 for number in NUMBERS if number % 10 != 3]
FAILED = [str(number) for number in NUMBERS if number % 10 == 3]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a case came to; `faults` says what was not as the matrix has it."""

    executions: int
    records: int
    faults: tuple[str, ...]

    def __str__(self) -> str:
        said = "ok" if not self.faults else "FAILED " + "; ".join(self.faults)
        return f"executions={self.executions} records={self.records} {said}"


def judged(row: Row, place: str, folder: Path, *, url: str | None) -> Verdict:
    """Run a case in an empty folder; without a URL the checkpoints are in its Redis."""
    nth = row.places[place]
    with World(folder, url=url, crash=f"{row.point}:{nth}" if row.point else None) as world:
        command = world.begin(NUMBERS)
        if row.fault is not None:
            row.fault(world, nth)
        ended = world.end(command)
        if row.point is not None:
            world.wait_until_crashed(nth)
        recorded = recorded_of(world.deployment.checkpoint_url)
        faults = tuple(_faults(row, world, ended, recorded))
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


def _faults(row: Row, world: World, ended: dict[str, Any], recorded: list[int]) -> Iterator[str]:
    executions = world.deployment.executions()
    least, most = (COUNT + extra for extra in row.extra)
    if set(executions) != set(NUMBERS) or not least <= executions.total() <= most:
        yield f"executed {dict(sorted(executions.items()))}, expected {least} to {most}"
    if sorted(recorded) != NUMBERS:
        yield f"recorded {sorted(recorded)}"
    if not _is_undisturbed(ended):
        yield f"ended as {ended}"
    proof = world.deployment.command("verify", RUN, "-o", "json")
    if not proof["ok"]:
        yield f"verify says {proof}"


def _is_undisturbed(ended: dict[str, Any]) -> bool:
    state = ended["state"]
    failed = [error["fan_out_index"] for error in state["errors"]]
    return (ended["status"], state["squares"], state["total"], failed) == ("succeeded", SQUARES, sum(SQUARES), FAILED)
