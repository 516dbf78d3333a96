"""The output of instances, in Redis."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio

from backends.ledgers.redis.client import advice_for, async_client, without_password
from backends.untraced import untraced
from orchestrator.capture.line import LogStream
from orchestrator.capture.log_store import PLAIN_FIELDS, LogFilter, LogRow
from orchestrator.errors import CheckpointUnavailable


class RedisLogStore:
    """A `LogStore` with one list for each run, `<namespace>:log:{<run_id>}`, whose places are the sequence.

    Nothing leaves it by itself but by `delete`: it holds what the instances of runs put out, each within its bound.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()

    async def append(self, rows: Sequence[LogRow]) -> None:
        for run_id, of_run in groupby(rows, key=attrgetter("run_id")):
            await self._asked("RPUSH", self._key(run_id), *(_text(row) for row in of_run))

    async def read(self, run_id: str, which: LogFilter, *, after: int, limit: int) -> tuple[list[LogRow], int]:
        texts = await self._asked("LRANGE", self._key(run_id), after, after + limit - 1)
        rows = [_row(sequence, text) for sequence, text in enumerate(texts, after + 1)]
        return [row for row in rows if which.takes(row)], after + len(rows)

    async def delete(self, run_id: str) -> None:
        await self._asked("UNLINK", self._key(run_id))

    async def close(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _key(self, run_id: str) -> str:
        return f"{self._namespace}:log:{{{run_id}}}"

    async def _asked(self, *command: Any) -> Any:
        loop = asyncio.get_running_loop()
        client: Any = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = async_client(self._url, name="rollforward-logs")
        try:
            with untraced():
                return await client.execute_command(*command)
        except redis.RedisError as error:
            raise CheckpointUnavailable(
                f"the log store {without_password(self._url)} cannot be used: {error}; "
                f"{advice_for(error) or 'see that this Redis is up and has memory and disk left'}"
            ) from error


def _text(row: LogRow) -> bytes:
    told = [list(row.indexes), row.stream, row.at.isoformat(), *(getattr(row, name) for name in PLAIN_FIELDS)]
    return json.dumps(told, separators=(",", ":")).encode()


def _row(sequence: int, text: bytes) -> LogRow:
    indexes, stream, at, *plain = json.loads(text)
    # A row of an earlier version has fewer fields.
    return LogRow(
        **dict(zip(PLAIN_FIELDS, plain, strict=False)),
        indexes=tuple(indexes),
        stream=LogStream(stream),
        at=datetime.fromisoformat(at),
        sequence=sequence,
    )
