"""What is kept of runs, as the command line reads it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import Run
from orchestrator.errors import CheckpointNotFound, LedgerUnavailable
from orchestrator.execution.lane import Ledger
from orchestrator.identity import Lineage
from orchestrator.ledger.view import LiveInstance
from rollforward.assembly import open_orchestrator_ledger, opened_store
from rollforward.embedded.folder import DEFAULT_PATH, Folder
from workers.settings import Settings

_SQLITE = "sqlite:///"


class NothingKept(CheckpointNotFound):
    """The store's file does not exist: no run was ever started here."""

    def __init__(self, run_id: str, path: Path) -> None:
        super().__init__(run_id)
        self.args = (
            f"no run {run_id!r}: {path} does not exist; go to the folder of the run, or set ROLLFORWARD_CHECKPOINT_URL",
        )


@dataclass(frozen=True, slots=True)
class Record:
    """One run, the store that keeps it, and the ledger where one can be reached."""

    run: Run
    store: CheckpointStore
    live: "LiveView"


class LiveView:
    """What the ledger says of a run in flight; `problem` says why it says nothing."""

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self.problem: str | None = None

    @property
    def is_there(self) -> bool:
        return self._ledger is not None and self.problem is None

    async def instances(self, run_id: str, fan_out: str) -> list[LiveInstance]:
        """The instances of a fan-out that are not recorded; none where the ledger is away."""
        if self._ledger is None or self.problem is not None:
            return []
        try:
            return await self._ledger.live(run_id, fan_out)
        except LedgerUnavailable as error:
            self.problem = str(error)
            return []


def missing_file(settings: Settings) -> Path | None:
    """The store's file, where the store is one and it does not exist: looking must not create it."""
    url = settings.checkpoint_url
    path = Path(url.removeprefix(_SQLITE))
    return path if url.startswith(_SQLITE) and not path.exists() else None


async def found_run(settings: Settings, run_id: str) -> Run:
    """The run of that id, or unique prefix of it.

    Raises:
        CheckpointNotFound, RunAmbiguous: there is none, or several.
    """
    path = missing_file(settings)
    if path is not None:
        raise NothingKept(run_id, path)
    async with opened_store(settings) as store:
        return await store.find(run_id)


@asynccontextmanager
async def opened_record(settings: Settings, run_id: str) -> AsyncIterator[Record]:
    """A run with its store and what can be reached of its ledger.

    Raises:
        CheckpointNotFound, RunAmbiguous: there is no such run, or several.
    """
    path = missing_file(settings)
    if path is not None:
        raise NothingKept(run_id, path)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings))
        run = await store.find(run_id)
        url = redis_url(settings)
        ledger = open_orchestrator_ledger(settings.model_copy(update={"redis_url": url})) if url else None
        if ledger is not None:
            stack.push_async_callback(ledger.close_connections)
        yield Record(run, store, LiveView(ledger))


def redis_url(settings: Settings) -> str | None:
    """Where the ledger is: the deployment's Redis, or that of an embedded run going on here."""
    return settings.redis_url or Folder(DEFAULT_PATH).live_redis_url


def lineage_json(lineage: Lineage) -> list[dict[str, object]]:
    """A lineage as scripts read it, outermost first."""
    return [{"fan_out": "/".join((*step.namespace, step.node)), "fan_out_index": step.index} for step in lineage]
