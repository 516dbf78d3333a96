"""Where a run is driven: against a deployment, or embedded in the current folder."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rollforward.assembly import Assembly, ExecutorName
from rollforward.embedded.deployment import Deployment, EmbeddedUnavailable
from rollforward.embedded.folder import DEFAULT_PATH, Folder
from workers.capacity import has_graph
from workers.settings import Settings

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

WORKERS_START_WITHIN = timedelta(seconds=60)
_LOOK_EVERY_SECONDS = 0.05
_MOST_DEFAULT_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Host:
    """What a run is driven with; `deployment` is what ends with this process, if anything does."""

    settings: Settings
    executor: ExecutorName
    deployment: Deployment | None = None
    folder: Folder | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the run stops when this process does: its ledger or its executor lives no longer."""
        return self.executor == "local" or self.settings.redis_url is None

    def settled(self) -> Settings:
        """The settings with the address of Redis, as soon as that answers."""
        if self.deployment is None:
            return self.settings
        return self.settings.model_copy(update={"redis_url": self.deployment.redis_url()})

    def failure(self) -> str | None:
        """Why the run cannot go on here; None while it can."""
        return None if self.deployment is None else self.deployment.failure()


@contextmanager
def hosted(
    settings: Settings, executor: ExecutorName, *, workers: int | None, import_path: Sequence[str] = ()
) -> Iterator[Host]:
    """Start what the run needs here, and end it afterwards; workers look for modules in `import_path` as well.

    Raises:
        FolderInUse: another embedded run has the current folder.
        EmbeddedUnavailable: there is no Redis here.
    """
    if executor == "local":
        yield from _local(settings)
    elif settings.redis_url is None or workers is not None:
        yield from _with_workers(settings, workers or default_workers(), import_path)
    else:
        yield Host(settings, executor)


def default_workers() -> int:
    """How many instances an embedded run works on at once, where nobody says."""
    return max(2, min(os.cpu_count() or 2, _MOST_DEFAULT_WORKERS))


async def workers_are_ready(assembly: Assembly, host: Host, graph: "Graph") -> bool:
    """Wait until the workers that were started here have the graph; false where none has it and none was started.

    Raises:
        LedgerUnavailable: Redis is away.
        EmbeddedUnavailable: the workers do not come up.
    """
    deadline = time.monotonic() + WORKERS_START_WITHIN.total_seconds()
    while assembly.workers is not None:
        workers = await asyncio.to_thread(assembly.workers.workers)
        if any(has_graph(worker, graph.name, graph.fingerprint) for worker in workers):
            return True
        if host.deployment is None:
            return False
        failure = host.failure()
        if failure is not None or time.monotonic() > deadline:
            reason = failure or host.deployment.worker_words() or "it is silent"
            raise EmbeddedUnavailable(f"the worker does not start: {reason}; see {DEFAULT_PATH}/logs")
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return True


def no_worker(graph: str, fingerprint: str) -> str:
    """The sentence that says that nobody can run a graph's instances."""
    return (
        f"No live worker has graph {graph} (fingerprint {fingerprint}); start one with its module in "
        "ROLLFORWARD_GRAPHS: `rollforward worker`"
    )


def _local(settings: Settings) -> Iterator[Host]:
    if not settings.checkpoint_url.startswith("sqlite:"):
        yield Host(settings, "local")
        return
    folder = Folder.create()
    with folder.lock():
        yield Host(settings, "local", folder=folder)


def _with_workers(settings: Settings, workers: int, import_path: Sequence[str]) -> Iterator[Host]:
    folder = Folder.create()
    deployment = Deployment(
        folder,
        worker=worker_command(workers),
        environment={
            "ROLLFORWARD_GRAPHS": ",".join(settings.graphs),
            "ROLLFORWARD_NAMESPACE": settings.namespace,
            # Any number of runs may be on one host, and a port is for one process.
            "ROLLFORWARD_METRICS": "off",
            **_python_path(import_path),
        },
        redis_url=settings.redis_url,
    )
    with deployment:
        yield Host(settings, "celery", deployment, folder)


def _python_path(folders: Sequence[str]) -> dict[str, str]:
    """The variable that has Python look in those folders too, before those that it looks in already."""
    if not folders:
        return {}
    there = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join((*folders, *([there] if there else ())))}


def worker_command(workers: int) -> Sequence[str]:
    """The command line of a worker with that many places."""
    return [sys.executable, "-m", "rollforward", "worker", "--concurrency", str(workers)]
