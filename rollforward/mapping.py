"""Calls a function with each of many items, for people without a graph."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import SlotRow
from orchestrator.compiled import CompiledGraph
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CallerError, CheckpointRecordInvalid, FingerprintMismatch, RunExists
from orchestrator.execution.handle import RunHandle
from orchestrator.execution.mapping import FAN_OUT, map_graph
from orchestrator.execution.status import Progress
from orchestrator.graph.node import ItemReader
from orchestrator.graph.origin import qualified_name
from orchestrator.metadata import checked
from rollforward.assembly import Assembly, ExecutorName, assembled
from rollforward.hosting import hosted, workers_are_ready
from workers.graph_list import is_importing
from workers.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_EVERY_SECONDS = 0.05
PIECE = 500


@dataclass(frozen=True, slots=True)
class ItemResult(Generic[Result]):
    """What came of one item: a value, or the error it failed with."""

    index: int
    key: str | None
    value: Result | None
    error: ErrorRecord | None = None

    @property
    def is_failed(self) -> bool:
        return self.error is not None


class MapOptions(TypedDict, total=False):
    """How a function is mapped.

    `key` names an item for people: a field of it, or a function of it. `retry_on` are the exceptions after which an
    item is tried again, `max_attempts` times in all. `tolerate` is how many items may fail, a count from 1 or a share
    below 1; without it any number may. `executor` "local" runs everything in this process; otherwise items go to the
    workers of ROLLFORWARD_REDIS_URL or, where none is set, to `workers` processes that end with the run. Where a run
    of that `run_id` is kept, with the same items, it is gone on with: nothing that is recorded runs again, and
    `retry_on`, `max_attempts`, `tolerate` and `metadata`, what the caller says about the run, are those of its first
    call.
    """

    key: ItemReader
    retry_on: tuple[type[Exception], ...]
    max_attempts: int
    tolerate: float
    executor: ExecutorName
    workers: int
    run_id: str
    metadata: Mapping[str, Any]


class MapRun(Generic[Result]):
    """A mapping under way."""

    def __init__(self, handle: RunHandle[Any], store: CheckpointStore, graph: CompiledGraph[Any]) -> None:
        self.run_id = handle.run_id
        self._handle = handle
        self._store = store
        self._codec = graph.fan_out_at([FAN_OUT]).subgraph.codec

    async def results(self) -> AsyncIterator[ItemResult[Result]]:
        """What came of each item, in index order, each as soon as it and those before it are recorded.

        Raises:
            GraphError: more items failed than are tolerated, after the last result.
        """
        following = 0
        while True:
            was_over = self._handle.is_over()
            rows = await self._recorded_from(following)
            for row in rows:
                yield self._result(row)
            following += len(rows)
            if was_over and not rows:
                break
            await asyncio.sleep(0 if rows else LOOK_EVERY_SECONDS)
        await self._handle.result()

    def status(self) -> Progress:
        """How far the run is."""
        return self._handle.status()

    async def cancel(self) -> None:
        """Start nothing new, and stop what runs; what is recorded stays."""
        await self._handle.cancel()

    async def _recorded_from(self, index: int) -> list[SlotRow]:
        """The rows from `index` on, up to the first gap."""
        entered = await self._store.fan_outs(self.run_id)
        if not entered:
            return []
        found = self._store.slots(self.run_id, entered[0].id, start=index, stop=index + PIECE)
        rows = [row async for row in found]
        return [row for at, row in enumerate(rows, index) if row.report.slot.index == at]

    def _result(self, row: SlotRow) -> ItemResult[Result]:
        report = row.report
        value = None if report.partial is None else self._codec.load_fields(report.partial)["result"]
        return ItemResult(report.slot.index, row.key, value, report.error)


@asynccontextmanager
async def start_map(
    function: Callable[[Item], Result], items: Iterable[Item], **options: Unpack[MapOptions]
) -> AsyncIterator[MapRun[Result]]:
    """Call `function` with each item; what is started for it here ends with the block.

    The function is one that workers can import; the file that calls this guards it by `if __name__ == "__main__"`.

    Raises:
        RuntimeError: that file has no such guard, and is being imported by a worker.
    """
    _refuse_while_imported()
    checked(options.get("metadata", {}))
    graph = map_graph(function, key=options.get("key"))
    settings = Settings()
    if options.get("executor") != "local":
        settings = settings.model_copy(update={"graphs": (*settings.graphs, importable_name(function))})
    executor, script_folder = options.get("executor", "celery"), [folder for folder in sys.path[:1] if folder]
    with hosted(settings, executor, workers=options.get("workers"), import_path=script_folder) as host:
        async with assembled(host.settled(), host.executor) as assembly:
            await workers_are_ready(assembly, host, graph)
            run_id = await _submitted(assembly, graph, _first_state(graph, items, options), options)
            handle = await assembly.orchestrator.start(run_id, graph)
            try:
                yield MapRun(handle, assembly.store, graph)
            finally:
                await handle.detach()


def importable_name(function: Callable[[Any], Any]) -> str:
    """The `module:function` that workers know a function by.

    Raises:
        NotImportable: it has none.
    """
    name = qualified_name(function)
    if not name.partition(":")[2].isidentifier():
        raise NotImportable(name)
    return name


class NotImportable(CallerError):
    """A function that workers cannot find by name."""

    category = "function_not_importable"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f'workers cannot import {name}; give it a name at the top of a module, or pass executor="local"'
        )


class MapHandle(Generic[Result]):
    """The synchronous twin of `MapRun`; the run goes on in a thread of its own."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._come: list[ItemResult[Result]] = []
        self._news = threading.Condition()
        self._started: Future[tuple[asyncio.AbstractEventLoop, MapRun[Result]]] = Future()
        self._ended: Future[None] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._live(start)), name="rollforward-map", daemon=True)
        thread.start()
        self._loop, self._run = self._started.result()
        self.run_id = self._run.run_id

    def results(self) -> Iterator[ItemResult[Result]]:
        """What came of each item, in index order, each as soon as it and those before it are recorded.

        May be asked for again, and begins at the first item each time.

        Raises:
            GraphError: more items failed than are tolerated, after the last result.
        """
        following = 0
        while come := self._come_after(following):
            yield from come
            following += len(come)
        self._ended.result()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, `timeout` seconds at most."""
        self._ended.result(timeout)

    def status(self) -> Progress:
        """How far the run is."""
        return self._run.status()

    def cancel(self) -> None:
        """Start nothing new, and stop what runs; what is recorded stays."""
        if not self._ended.done():
            asyncio.run_coroutine_threadsafe(self._run.cancel(), self._loop).result()

    def _come_after(self, count: int) -> list[ItemResult[Result]]:
        """Wait for results beyond the first `count`; there are none only where the run has ended."""
        with self._news:
            self._news.wait_for(lambda: len(self._come) > count or self._ended.done())
            return self._come[count:]

    async def _live(self, start: Callable[[], Any]) -> None:
        try:
            async with start() as run:
                self._started.set_result((asyncio.get_running_loop(), run))
                async for result in run.results():
                    with self._news:
                        self._come.append(result)
                        self._news.notify_all()
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits
            self._conclude(error)
        else:
            self._conclude(None)

    def _conclude(self, error: BaseException | None) -> None:
        if error is not None and not self._started.done():
            self._started.set_exception(error)
        with self._news:
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)
            self._news.notify_all()


def map(function: Callable[[Item], Result], items: Iterable[Item], **options: Unpack[MapOptions]) -> MapHandle[Result]:
    """Call `function` with each item and give a handle whose `results()` streams; see `MapOptions`.

    The function is one that workers can import; the file that calls this guards it by `if __name__ == "__main__"`.

    Raises:
        RuntimeError: that file has no such guard, and is being imported by a worker.
    """
    _refuse_while_imported()
    return MapHandle(lambda: start_map(function, items, **options))


def _refuse_while_imported() -> None:
    if is_importing():
        raise RuntimeError(
            "rollforward.map is called while a worker imports this file for its function; guard the call by "
            '`if __name__ == "__main__":`'
        )


async def _submitted(assembly: Assembly, graph: CompiledGraph[Any], first: Any, options: MapOptions) -> str:
    """Keep the run, unless one of that id is kept that maps the same items.

    Raises:
        FingerprintMismatch: the kept run is of another function, or of another version of it.
        CheckpointRecordInvalid: it has other items.
    """
    try:
        new = await assembly.orchestrator.submit(
            graph, first, run_id=options.get("run_id"), metadata=options.get("metadata")
        )
        return new.run_id
    except RunExists as error:
        run = await assembly.store.find(error.run_id)
    if run.fingerprint != graph.fingerprint:
        raise FingerprintMismatch(run.graph, run.fingerprint, graph.fingerprint)
    kept = graph.codec.load((await assembly.store.steps(run.run_id))[0].state)
    if _items_text(graph, kept) != _items_text(graph, first):
        raise CheckpointRecordInvalid(
            f"run {run.run_id} was started with other items; go on with those of its first call, or give these "
            "another run_id"
        )
    return run.run_id


def _items_text(graph: CompiledGraph[Any], state: Any) -> str:
    return graph.codec.dump_fields({"items": state.items})


def _first_state(graph: CompiledGraph[Any], items: Iterable[Any], options: MapOptions) -> Any:
    return graph.state_class.model_validate(
        {
            "items": list(items),
            "retry_on": [qualified_name(kind) for kind in options.get("retry_on", ())],
            "max_attempts": options.get("max_attempts", 3 if options.get("retry_on") else 1),
            "tolerate": options.get("tolerate"),
        }
    )
