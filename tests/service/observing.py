"""Runs graphs in this process or on a real worker, with observers."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator.compiled import CompiledGraph
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.stepping import local_lane
from rollforward.assembly import open_orchestrator_ledger
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, LEASE_SECONDS, WorkerProcess
from workers.dispatch import CeleryExecutor
from workers.opening import open_worker_ledger
from workers.settings import Settings

OPTIONS = Options(
    owner="observed", instance_lease=timedelta(seconds=LEASE_SECONDS), heartbeat=timedelta(seconds=HEARTBEAT_SECONDS)
)


@dataclass(frozen=True)
class Place:
    """Where instances run: on the worker of these settings, or here."""

    settings: Settings | None = None
    worker: Callable[[], WorkerProcess] | None = None

    @property
    def is_remote(self) -> bool:
        return self.settings is not None

    @asynccontextmanager
    async def lane(self, graph: CompiledGraph[Any]) -> AsyncIterator[Lane]:
        if self.settings is None:
            lane = local_lane(graph, OPTIONS)
            try:
                yield lane
            finally:
                await lane.executor.close()
            return
        ledger, registry = open_orchestrator_ledger(self.settings), open_worker_ledger(self.settings)
        executor = CeleryExecutor(self.settings, registry)
        try:
            yield Lane(ledger=ledger, executor=executor)
        finally:
            await executor.close()
            await ledger.close_connections()
            registry.close()

    async def invoked(self, graph: CompiledGraph[Any], state: Any, *observers: Any, **how: Any) -> Any:
        """Run a graph to its end, and wait until observers were told everything."""
        async with self.lane(graph) as lane:
            try:
                return await graph.invoke(state, lane=lane, options=OPTIONS, observers=observers, **how)
            finally:
                await graph.drain()


HERE = Place()


@contextmanager
def on_a_worker(folder: Path, redis: RedisServer, graphs: Sequence[str]) -> Iterator[Place]:
    """A worker with these graphs, and the place that it is."""
    settings = Settings(
        redis_url=redis.url,
        broker_url=redis.url,
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        graphs=tuple(graphs),
    )
    with WorkerProcess(folder, redis_url=redis.url, graphs=graphs) as worker:
        yield Place(settings, lambda: worker)
