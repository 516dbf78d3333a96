"""A database that any number of event loops use, by two threads."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import bring_up_to_date
from backends.thread_work import to_its_end
from backends.untraced import untrace_thread

T = TypeVar("T")
Work = Callable[[Connection], T]


class DatabaseThreads:
    """All writes go through one thread with one connection, all reads through another; `name` is what for.

    Nothing is connected before the first work, which also brings the tables of the namespace to this version.
    """

    def __init__(self, url: str, *, namespace: str, name: str, is_durable: bool = True) -> None:
        self._namespace = namespace
        self._database = Database(url, is_durable=is_durable)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-writer", initializer=untrace_thread)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-reader", initializer=untrace_thread)
        self._preparing = threading.Lock()
        self._is_prepared = False

    async def write(self, work: Work[T]) -> T:
        """What the work gives, done in one transaction that is committed by then.

        Raises:
            CheckpointUnavailable: the database cannot be reached, or refuses it.
        """
        return await self._begun(self._writer, self._database.write, work)

    async def write_to_the_end(self, work: Work[T]) -> T:
        """As `write`, and wait for the end of it although cancelled."""
        return await to_its_end(self._begun(self._writer, self._database.write, work))

    async def read(self, work: Work[T]) -> T:
        """What the work gives, done on one state of the database.

        Raises:
            CheckpointUnavailable: the database cannot be reached.
        """
        return await self._begun(self._reader, self._database.read, work)

    async def close(self) -> None:
        """Let the connections go once all work is done."""
        await asyncio.to_thread(self._close)

    def _begun(
        self, thread: ThreadPoolExecutor, transaction: Callable[[Work[T]], T], work: Work[T]
    ) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(thread, self._prepared, transaction, work)

    def _prepared(self, transaction: Callable[[Work[T]], T], work: Work[T]) -> T:
        with self._preparing:
            if not self._is_prepared:
                bring_up_to_date(self._database, self._namespace)
                self._is_prepared = True
        return transaction(work)

    def _close(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._database.close()
