"""What became of instances and nodes, in Redis."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import redis

from backends.status.redis_thread import RedisThread
from orchestrator.identity import Level
from orchestrator.observers.event import InstanceState
from orchestrator.status.row import StatusRow
from orchestrator.status.store import StatusFilter

KEPT_FOR = timedelta(days=30)
PAGE_ROWS = 5000

_PLAIN = (
    *("run_id", "invocation_id", "correlation_id", "node", "index", "key", "attempt", "delivery", "worker"),
    *("duration_seconds", "error_category", "error_type", "error_message"),
)
"""The fields that are texts and numbers, or lists of texts."""


class RedisStatusStore:
    """A `StatusStore` with one list for each run, which is dropped when nothing has come to it for `KEPT_FOR`.

    The keys are `<namespace>:status:{<run_id>}` (list), `<namespace>:status:runs` (sorted set of the runs by their
    first sequence) and `<namespace>:status:counts` (hash: the last sequence). A row takes some 300 bytes of memory, and
    an instance that goes well has three: 90 MB for 100,000 instances.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self._prefix = f"{namespace}:status:"
        self._redis = RedisThread(url, what="status")

    async def append(self, rows: Sequence[StatusRow]) -> None:
        await self._redis.written(lambda client: self._append(client, rows))

    async def read(self, which: StatusFilter) -> list[StatusRow]:
        return await self._redis.asked(lambda client: which.of(self._rows(client, which.run_id)))

    async def delete(self, run_id: str) -> None:
        await self._redis.asked(lambda client: self._delete(client, run_id))

    async def close(self) -> None:
        await self._redis.close()

    def _append(self, client: redis.Redis, rows: Sequence[StatusRow]) -> None:
        last = client.hincrby(f"{self._prefix}counts", "sequence", len(rows))
        of_runs: dict[str, list[bytes]] = defaultdict(list)
        for sequence, row in enumerate(rows, last - len(rows) + 1):
            of_runs[row.run_id].append(_text(row, sequence))
        with client.pipeline(transaction=True) as pipeline:
            for run_id, texts in of_runs.items():
                pipeline.rpush(self._key(run_id), *texts)
                pipeline.expire(self._key(run_id), KEPT_FOR)
                pipeline.zadd(f"{self._prefix}runs", {run_id: last}, nx=True)
            pipeline.execute()

    def _delete(self, client: redis.Redis, run_id: str) -> None:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.unlink(self._key(run_id))
            pipeline.zrem(f"{self._prefix}runs", run_id)
            pipeline.execute()

    def _rows(self, client: redis.Redis, run_id: str | None) -> list[StatusRow]:
        run_ids = [run_id] if run_id is not None else self._run_ids(client)
        # A connection that broke may have had the client send the same rows twice.
        rows = {row.sequence: row for one in run_ids for row in self._of_run(client, one)}
        return [rows[sequence] for sequence in sorted(rows)]

    def _of_run(self, client: redis.Redis, run_id: str) -> Iterator[StatusRow]:
        start = 0
        while texts := cast("list[bytes]", client.lrange(self._key(run_id), start, start + PAGE_ROWS - 1)):
            yield from map(_row, texts)
            start += len(texts)

    def _run_ids(self, client: redis.Redis) -> list[str]:
        return [name.decode() for name in cast("list[bytes]", client.zrevrange(f"{self._prefix}runs", 0, -1))]

    def _key(self, run_id: str) -> str:
        return f"{self._prefix}{{{run_id}}}"


def _text(row: StatusRow, sequence: int) -> bytes:
    lineage = [[level.node, level.index, level.branch] for level in row.lineage]
    told: list[Any] = [sequence, lineage, row.state.value, row.at.isoformat(), dict(row.tags)]
    told += [getattr(row, name) for name in _PLAIN]
    return json.dumps(told, separators=(",", ":")).encode()


def _row(text: bytes) -> StatusRow:
    sequence, lineage, state, at, tags, *plain = json.loads(text)
    fields = dict(zip(_PLAIN, plain, strict=True))
    return StatusRow(
        **{**fields, "node": tuple(fields["node"])},
        sequence=sequence,
        lineage=tuple(Level(*level) for level in lineage),
        state=InstanceState(state),
        at=datetime.fromisoformat(at),
        tags=tags,
    )
