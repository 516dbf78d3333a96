"""The output of instances, in Redis."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.asyncio

from backends.ledgers.redis.client import advice_for, async_client, without_password
from orchestrator.capture.line import LogStream
from orchestrator.errors import CheckpointUnavailable
from orchestrator.observers.log_store import LogFilter, LogRow

T = TypeVar("T")

_SAME = (
    "invocation_id correlation_id node indexes key delivery worker source number stream level logger text is_cut".split()
)


class RedisLogStore:
    """A `LogStore` with one list for each run, `<namespace>:log:{<run_id>}`, whose places are the sequence.

    Nothing leaves it by itself: what it holds is what the instances of a run put out, each no more than its bound.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()

    async def append(self, rows: Sequence[LogRow]) -> None:
        for run_id, of_run in groupby(rows, key=attrgetter("run_id")):
            texts = [_text(row) for row in of_run]
            await self._asked(lambda client, key=self._key(run_id), texts=texts: client.rpush(key, *texts))

    async def read(self, run_id: str, which: LogFilter, *, after: int, limit: int) -> tuple[list[LogRow], int]:
        key = self._key(run_id)
        texts: list[bytes] = await self._asked(lambda client: client.lrange(key, after, after + limit - 1))
        rows = [_row(run_id, sequence, text) for sequence, text in enumerate(texts, after + 1)]
        return [row for row in rows if which.takes(row)], after + len(rows)

    async def close(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _key(self, run_id: str) -> str:
        return f"{self._namespace}:log:{{{run_id}}}"

    async def _asked(self, question: Callable[[Any], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = async_client(self._url, name="rollforward-logs")
        try:
            return await question(client)
        except redis.RedisError as error:
            raise CheckpointUnavailable(
                f"the log store {without_password(self._url)} cannot be used: {error}; "
                f"{advice_for(error) or 'see that this Redis is up and has memory and disk left'}"
            ) from error


def _text(row: LogRow) -> bytes:
    told = [*(getattr(row, name) for name in _SAME), row.at.isoformat()]
    return json.dumps(told, separators=(",", ":")).encode()


def _row(run_id: str, sequence: int, text: bytes) -> LogRow:
    *same, at = json.loads(text)
    told = dict(zip(_SAME, same, strict=True))
    told |= {"indexes": tuple(told["indexes"]), "stream": LogStream(told["stream"])}
    return LogRow(run_id=run_id, sequence=sequence, at=datetime.fromisoformat(at), **told)
