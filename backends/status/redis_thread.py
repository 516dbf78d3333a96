"""A Redis that any number of event loops ask, by one thread."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import redis

from backends.ledgers.redis.client import advice_for, sync_client, without_password
from backends.thread_work import to_its_end
from backends.untraced import untrace_thread
from orchestrator.errors import CheckpointUnavailable

T = TypeVar("T")


class RedisThread:
    """One connection however many loops come and go; what `what` stands for uses it, as in "status".

    It connects when it is first asked.
    """

    def __init__(self, url: str, *, what: str) -> None:
        self._url = url
        self._what = what
        self._client = sync_client(url, name=f"rollforward-{what}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=what, initializer=untrace_thread)

    async def asked(self, question: Callable[[redis.Redis], T]) -> T:
        """What the question gives, asked in the thread, one after the other.

        Raises:
            CheckpointUnavailable: this Redis cannot be reached, or refuses.
        """
        with self._told():
            return await self._begun(question)

    async def written(self, command: Callable[[redis.Redis], None]) -> None:
        """Have it done as `asked` does, and wait for the end of it although cancelled.

        Raises:
            CheckpointUnavailable: as there.
        """
        with self._told():
            await to_its_end(self._begun(command))

    def _begun(self, question: Callable[[redis.Redis], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, question, self._client)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise what goes wrong with Redis as ours."""
        try:
            yield
        except redis.RedisError as error:
            raise CheckpointUnavailable(
                f"the {self._what} store {without_password(self._url)} cannot be used: {error}; "
                f"{advice_for(error) or 'see that this Redis is up and has memory and disk left'}"
            ) from error

    async def close(self) -> None:
        """Let the connection go once all that was asked is answered."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.shutdown()
        self._client.close()
