"""Brings instances to Celery workers."""

import asyncio
import contextvars
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator.execution.executor import Capacity, Hint
from orchestrator.ledger.protocol import WorkerRegistry
from orchestrator.seal import Seal
from workers.application import build_app
from workers.capacity import CapacityBoard
from workers.publisher import Publisher
from workers.settings import Settings


class CeleryExecutor:
    """Publishes hints from one thread, so that they stay in order, and asks `registry` for capacity from another.

    `registry` stays the caller's to close.
    """

    def __init__(self, settings: Settings, registry: WorkerRegistry) -> None:
        self._app = build_app(settings)
        self._publisher = Publisher(self._app, Seal(settings.seal_keys), namespace=settings.namespace)
        self._publishing = ThreadPoolExecutor(1, thread_name_prefix="rollforward-publisher")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="rollforward-capacity")
        self._board = CapacityBoard(registry, self._looking)

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        if not hints:
            return
        # The thread takes this context with it, so that a trace goes on in the headers of the messages.
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._publishing, context.run, self._publisher.publish, hints)

    async def capacity(self, graph: str, fingerprint: str) -> Capacity:
        return await self._board.of(graph, fingerprint)

    async def cancel(self, run_id: str, fan_out: str | None = None) -> None:
        """Do nothing: workers learn it from the ledger, with their next beat."""

    async def close(self) -> None:
        await self._board.close()
        await asyncio.get_running_loop().run_in_executor(self._publishing, self._publisher.close)
        self._publishing.shutdown()
        self._looking.shutdown()
        self._app.close()
