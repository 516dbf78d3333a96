"""One namespace of one Redis, and how it is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline

from backends.checkpointers.redis.keys import Keys
from backends.ledgers.redis.client import advice_for, async_client, without_password
from backends.lua_script import run_async, script
from backends.untraced import untraced
from orchestrator.checkpoint.row import Ownership
from orchestrator.errors import CallerError, CheckpointUnavailable, Fenced

T = TypeVar("T")


class RedisSpace:
    """The scripts and commands of a store, from any number of event loops; each has connections of its own."""

    def __init__(self, url: str, *, namespace: str) -> None:
        _check(url)
        self._url = url
        self._keys = Keys(namespace)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()

    async def close(self) -> None:
        """Let go of the running loop's connections; those of another loop end with it."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _owned(self, verb: str, ownership: Ownership, *arguments: Any) -> Any:
        """Run a script that refuses any epoch but this one.

        Raises:
            Fenced: another orchestrator owns the run.
        """
        return await self._script(verb, ownership.run_id, ownership.epoch, *arguments)

    async def _script(self, verb: str, run_id: str, epoch: int, *arguments: Any) -> Any:
        lua = script(__package__, verb)
        told = (2, self._keys.run(run_id), self._keys.index, epoch, *arguments)
        try:
            return await self._asked(lambda client: run_async(client, lua, *told))
        except redis.ResponseError as error:
            raise Fenced(run_id, epoch) from error

    async def _command(self, *told: Any) -> Any:
        """The answer to one command."""

        async def run(client: Any) -> Any:
            return await client.execute_command(*told)

        return await self._asked(run)

    async def _together(self, fill: Callable[[Pipeline], None]) -> Any:
        """The answers to commands that nothing comes between."""

        async def run(client: redis.asyncio.Redis) -> Any:
            async with client.pipeline(transaction=True) as pipeline:
                fill(pipeline)
                return await pipeline.execute()

        return await self._asked(run)

    async def _asked(self, question: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        try:
            with untraced():
                return await question(self._client())
        except redis.ResponseError as error:
            if str(error).startswith("FENCED"):
                raise
            raise self._unavailable(error) from error
        except redis.RedisError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: redis.RedisError) -> CheckpointUnavailable:
        place = without_password(self._url)
        return CheckpointUnavailable(
            f"the checkpoint store {place} cannot be used: {error}; "
            f"{advice_for(error) or 'see that this Redis is up and has memory and disk left'}"
        )

    def _client(self) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = async_client(self._url, name="rollforward-checkpointer")
        return client


def _check(url: str) -> None:
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise CallerError("the checkpoint URL cannot be read; write it as redis://USER:PASSWORD@HOST:6379/1") from error
