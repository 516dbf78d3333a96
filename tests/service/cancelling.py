"""A run of `tests.graph.cancellable` over real workers, driven in this process, and what its instances say."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.protocol import RecordReader
from orchestrator.checkpoint.row import Run
from orchestrator.checkpoint.verify import Verification, verify
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import RollforwardError
from orchestrator.execution.handle import RunHandle
from rollforward.assembly import Assembly, assembled
from tests.graph import cancellable
from tests.graph.cancellable import Act
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, LEASE_SECONDS, WorkerProcess, wait_until
from workers.settings import Settings

GRAPHS = ("tests.graph.cancellable",)
MARGIN_SECONDS = 5.0
"""What a busy machine may take beside the heartbeat that brings the word."""


@dataclass(frozen=True, slots=True)
class Note:
    """What an instance did, where, and when."""

    what: str
    place: str
    at: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder in which instances leave notes, and a deployment whose workers run them.

    `because` says what the workers had to say, where something that is waited for does not come.
    """

    folder: Path
    redis: RedisServer
    because: Callable[[], str] = str

    @property
    def settings(self) -> Settings:
        return Settings(
            redis_url=self.redis.url,
            broker_url=self.redis.url,
            checkpoint_url=f"sqlite:///{self.folder}/state.db",
            graphs=GRAPHS,
            lease_seconds=LEASE_SECONDS,
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )

    def notes(self, *kinds: str) -> list[Note]:
        """What the instances did so far; with `kinds` only that."""
        file = self.folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        told = (line.split() for line in lines)
        return [Note(what, place, float(at)) for what, place, at in told if not kinds or what in kinds]

    def places(self, *kinds: str) -> set[str]:
        """Where they did it."""
        return {note.place for note in self.notes(*kinds)}

    def running(self) -> set[str]:
        """Where an instance began and did not stop."""
        return self.places("began") - self.places("ended", "failed", "cancelled", "told")

    def executions(self) -> Counter[str]:
        """How often each instance was begun."""
        return Counter(note.place for note in self.notes("began"))

    def tell(self, name: str) -> None:
        """Make the file that instances look for."""
        (self.folder / name).touch()

    def waiting(self) -> int:
        """How many messages no worker has fetched."""
        with self.redis.client() as client:
            return sum(client.llen(key) for key in client.keys("rollforward:mq:rollforward.cancellable*"))

    def fetched(self) -> int:
        """How many messages workers have fetched and not acknowledged."""
        with self.redis.client() as client:
            return int(client.zcard("rollforward:mq:unacked_index"))

    def is_drained(self) -> bool:
        """Whether no message is left, fetched or not."""
        return not self.waiting() and not self.fetched()

    async def until_busy(self, places: set[str]) -> None:
        """Wait until the instances there are in the middle of their work."""
        await until(lambda: places <= self.places("waiting"), what=f"{places} wait", because=self.because)

    async def until_still(self) -> None:
        """Wait until no message is left, and nothing runs any more."""
        await until(self.is_drained, what="no message is left", because=self.because)
        await until(lambda: not self.running(), what="nothing runs", because=lambda: str(self.running()))

    def ledger_keys(self, run_id: str) -> set[str]:
        """What the ledger has of a run."""
        with self.redis.client() as client:
            prefix = f"rollforward:run:{{{run_id}}}:"
            return {key.decode().removeprefix(prefix) for key in client.keys(f"{prefix}*")}


class Driven:
    """A run that is driven here."""

    def __init__(self, assembly: Assembly, graph: CompiledGraph[Any], handle: RunHandle[Any]) -> None:
        self.run_id = handle.run_id
        self.handle = handle
        self._store = assembly.store
        self._start = partial(assembly.orchestrator.start, handle.run_id, graph)

    async def row(self) -> Run:
        return await self._store.find(self.run_id)

    async def resume(self) -> RunHandle[Any]:
        """Go on with it, in the same process."""
        return await self._start()

    async def assert_consistent(self) -> None:
        """All that is wrong with the record is that instances are missing."""
        found = await self.verified()
        problems = [*found.problems, *(problem for fan_out in found.fan_outs for problem in fan_out.problems)]
        assert [problem for problem in problems if not problem.endswith("instances are not recorded")] == []
        assert sum(fan_out.duplicates for fan_out in found.fan_outs) == 0

    async def verified(self) -> Verification:
        return await verify(self._store, self.run_id)

    async def recorded(self) -> set[str]:
        """The places whose contribution is recorded."""
        return await recorded(self._store, self.run_id)

    async def until_recorded(self, count: int) -> set[str]:
        """Wait until so many contributions are recorded; give their places."""
        async with asyncio.timeout(30):
            while len(found := await self.recorded()) < count:  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(0.02)
        return found


async def recorded(store: RecordReader, run_id: str) -> set[str]:
    """The places of a run whose contribution is recorded."""
    places = set()
    for row in await store.fan_outs(run_id):
        outer = [str(step.index) for step in row.key.lineage]
        async for slot in store.slots(run_id, row.id):
            places.add(".".join((*outer, str(slot.report.slot.index))))
    return places


def places_of(acts: Sequence[Act | Sequence[Act]], *kinds: Act) -> set[str]:
    """The places whose act is one of these."""
    found = set()
    for at, act in enumerate(acts):
        if isinstance(act, str):
            found |= {str(at)} if act in kinds else set()
        else:
            found |= {f"{at}.{inner}" for inner in places_of(act, *kinds)}
    return found


async def until(condition: Callable[[], Any], *, what: str, because: Callable[[], str] = str) -> None:
    """`wait_until`, while the loop of the test goes on."""
    await asyncio.to_thread(lambda: wait_until(condition, what=what, because=because))


@contextmanager
def at_work(worker: WorkerProcess) -> Iterator[WorkerProcess]:
    """Start a worker, and kill it at the end: nobody waits for what it is at, and a frozen one could not stop."""
    try:
        yield worker.start()
    finally:
        worker.discard()


@asynccontextmanager
async def driven(scene: Scene, graph: str, acts: list[Any], *, run_id: str | None = None) -> AsyncIterator[Driven]:
    """Start a run of this graph, or go on with it; what is still under way at the end is stopped."""
    compiled: CompiledGraph[Any] = getattr(cancellable, graph)
    async with assembled(scene.settings, "celery") as assembly:
        if run_id is None:
            items = {"acts" if graph == "flat" else "rows": acts}
            first = compiled.state_class.model_validate({**items, "folder": str(scene.folder)})
            run_id = (await assembly.orchestrator.submit(compiled, first)).run_id
        handle = await assembly.orchestrator.start(run_id, compiled)
        try:
            yield Driven(assembly, compiled, handle)
        finally:
            scene.tell("go")
            await handle.cancel()
            with contextlib.suppress(RollforwardError):
                await handle.result()
