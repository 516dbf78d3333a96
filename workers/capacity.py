"""What the live workers can take, as last seen."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor as Threads

from orchestrator.errors import LedgerUnavailable
from orchestrator.execution.executor import Capacity
from orchestrator.ledger.protocol import WorkerRegistry

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0


class CapacityBoard:
    """Looks at the registry at most once a second, in a thread; whoever asks is told what was seen last."""

    def __init__(self, registry: WorkerRegistry, threads: Threads) -> None:
        self._registry = registry
        self._threads = threads
        self._workers: Sequence[Mapping[str, object]] = ()
        self._looked_at = -LOOK_EVERY_SECONDS
        self._looking: asyncio.Task[None] | None = None

    async def of(self, graph: str, fingerprint: str) -> Capacity:
        """The places of the workers that have this graph; waits for the very first look only."""
        is_first = self._looking is None
        if time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS and (is_first or self._looking_is_done()):
            self._looking = asyncio.create_task(self._look())
        if is_first and self._looking is not None:
            await asyncio.shield(self._looking)
        fitting = [worker for worker in self._workers if has_graph(worker, graph, fingerprint)]
        return Capacity(slots=_sum(fitting, "slots"), free=_sum(fitting, "free"))

    async def close(self) -> None:
        """Wait for a look that is under way."""
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        try:
            self._workers = await asyncio.get_running_loop().run_in_executor(self._threads, self._registry.workers)
        except LedgerUnavailable as error:
            logger.warning("registry away, going by what was seen last", extra={"error": str(error)})
        self._looked_at = time.monotonic()

    def _looking_is_done(self) -> bool:
        return self._looking is not None and self._looking.done()


def has_graph(worker: Mapping[str, object], graph: str, fingerprint: str) -> bool:
    """Say whether a worker, as it announced itself, has this version of this graph."""
    graphs = worker.get("graphs")
    pairs = graphs if isinstance(graphs, Sequence) else ()
    return [graph, fingerprint] in [list(pair) for pair in pairs if isinstance(pair, Sequence)]


def _sum(workers: Sequence[Mapping[str, object]], fact: str) -> int:
    numbers = (worker.get(fact) for worker in workers)
    return sum(number for number in numbers if isinstance(number, int))
