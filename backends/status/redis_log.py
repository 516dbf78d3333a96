"""The output of instances, in Redis."""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import cast

import redis

from backends.status.redis_thread import RedisThread
from orchestrator.capture.line import LogStream
from orchestrator.capture.log_store import PLAIN_FIELDS, LogFilter, LogRow


class RedisLogStore:
    """A `LogStore` with one list for each run, `<namespace>:log:{<run_id>}`, whose places are the sequence.

    Nothing leaves it by itself but by `delete`: it holds what the instances of runs put out, each within its bound.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self._redis = RedisThread(url, what="log")
        self._namespace = namespace

    async def append(self, rows: Sequence[LogRow]) -> None:
        await self._redis.written(lambda client: self._append(client, rows))

    async def read(self, run_id: str, which: LogFilter, *, after: int, limit: int) -> tuple[list[LogRow], int]:
        rows = await self._redis.asked(lambda client: self._page(client, run_id, after, limit))
        return [row for row in rows if which.takes(row)], after + len(rows)

    async def delete(self, run_id: str) -> None:
        await self._redis.asked(lambda client: client.unlink(self._key(run_id)))

    async def close(self) -> None:
        await self._redis.close()

    def _append(self, client: redis.Redis, rows: Sequence[LogRow]) -> None:
        for run_id, of_run in groupby(rows, key=attrgetter("run_id")):
            client.rpush(self._key(run_id), *map(_text, of_run))

    def _page(self, client: redis.Redis, run_id: str, after: int, limit: int) -> list[LogRow]:
        texts = cast("list[bytes]", client.lrange(self._key(run_id), after, after + limit - 1))
        return [_row(sequence, text) for sequence, text in enumerate(texts, after + 1)]

    def _key(self, run_id: str) -> str:
        return f"{self._namespace}:log:{{{run_id}}}"


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
