"""What became of instances and nodes, in Redis."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import redis

from backends.ledgers.redis.client import advice_for, sync_client, without_password
from backends.untraced import untrace_thread
from orchestrator.errors import CheckpointUnavailable
from orchestrator.identity import Level
from orchestrator.observers.event import InstanceState
from orchestrator.status.row import StatusRow
from orchestrator.status.store import StatusFilter

T = TypeVar("T")

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
        self._url = url
        self._prefix = f"{namespace}:status:"
        self._client = sync_client(url, name="rollforward-status")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="status", initializer=untrace_thread)

    async def append(self, rows: Sequence[StatusRow]) -> None:
        await self._asked(lambda: self._append(rows))

    async def read(self, which: StatusFilter) -> list[StatusRow]:
        return await self._asked(lambda: which.of(self._rows(which.run_id)))

    async def delete(self, run_id: str) -> None:
        await self._asked(lambda: self._delete(run_id))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _append(self, rows: Sequence[StatusRow]) -> None:
        last = self._client.hincrby(f"{self._prefix}counts", "sequence", len(rows))
        of_runs: dict[str, list[bytes]] = defaultdict(list)
        for sequence, row in enumerate(rows, last - len(rows) + 1):
            of_runs[row.run_id].append(_text(row, sequence))
        with self._client.pipeline(transaction=True) as pipeline:
            for run_id, texts in of_runs.items():
                pipeline.rpush(self._key(run_id), *texts)
                pipeline.expire(self._key(run_id), KEPT_FOR)
                pipeline.zadd(f"{self._prefix}runs", {run_id: last}, nx=True)
            pipeline.execute()

    def _delete(self, run_id: str) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.unlink(self._key(run_id))
            pipeline.zrem(f"{self._prefix}runs", run_id)
            pipeline.execute()

    def _rows(self, run_id: str | None) -> list[StatusRow]:
        run_ids = [run_id] if run_id is not None else self._run_ids()
        # A connection that broke may have had the client send the same rows twice.
        rows = {row.sequence: row for one in run_ids for row in self._of_run(one)}
        return [rows[sequence] for sequence in sorted(rows)]

    def _of_run(self, run_id: str) -> Iterator[StatusRow]:
        start = 0
        while texts := cast("list[bytes]", self._client.lrange(self._key(run_id), start, start + PAGE_ROWS - 1)):
            yield from map(_row, texts)
            start += len(texts)

    def _run_ids(self) -> list[str]:
        return [name.decode() for name in cast("list[bytes]", self._client.zrevrange(f"{self._prefix}runs", 0, -1))]

    def _key(self, run_id: str) -> str:
        return f"{self._prefix}{{{run_id}}}"

    async def _asked(self, question: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, question)
        except redis.RedisError as error:
            raise CheckpointUnavailable(
                f"the status store {without_password(self._url)} cannot be used: {error}; "
                f"{advice_for(error) or 'see that this Redis is up and has memory and disk left'}"
            ) from error

    def _close(self) -> None:
        self._thread.shutdown()
        self._client.close()


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
