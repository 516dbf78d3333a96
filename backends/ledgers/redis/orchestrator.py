"""An orchestrator's end of the ledger in Redis, and its reader."""

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio

from backends.ledgers.redis.client import async_client, failure
from backends.ledgers.redis.keys import Keys
from backends.ledgers.redis.wire import flat_slots, read_entries, read_report, write_item
from backends.lua_script import run_async, script
from backends.untraced import untraced
from orchestrator.errors import SealBroken
from orchestrator.identity import Slot
from orchestrator.ledger.memory import TOMBSTONE_SECONDS
from orchestrator.ledger.owner import worker_of
from orchestrator.ledger.view import (
    Declined,
    Lapse,
    LiveInstance,
    LiveState,
    Opening,
    Overdue,
    Progress,
    QueueAnswer,
    QueuedItem,
    Sweep,
    Usage,
)
from orchestrator.report import Report
from orchestrator.seal import Seal

log = logging.getLogger(__name__)

LARGEST_CALL_BYTES = 16 * 1024 * 1024
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
LONGEST_BLOCK_SECONDS = 2.0
WORTH_A_SWEEP = frozenset((b"lapsed", b"declined"))


class RedisLedger:
    """The verbs of an orchestrator, from any event loop; each has connections of its own.

    `now` is the seam for simulation: without it the server's clock counts.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "rollforward",
        seal: Seal | None = None,
        client_name: str = "rollforward-orchestrator",
        now: Callable[[], float] | None = None,
    ) -> None:
        self._url = url
        self._keys = Keys(namespace)
        self._seal = seal or Seal()
        self._client_name = client_name
        self._now = now
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()

    async def open(self, run_id: str, epoch: int, opening: Opening) -> None:
        recorded, briefing = opening.recorded.to_bytes(), (opening.briefing, opening.briefing_hash)
        await self._owned("open", run_id, epoch, opening.fan_out, recorded, *briefing, opening.created_at)

    async def queue(
        self, run_id: str, epoch: int, items: Sequence[QueuedItem], *, claim_deadline_seconds: float
    ) -> list[QueueAnswer]:
        answers: list[bytes] = []
        for batch in _batches(items):
            flat = [part for item in batch for part in _queued(item)]
            answers += await self._owned("queue", run_id, epoch, repr(float(claim_deadline_seconds)), *flat)
        return [QueueAnswer(answer.decode()) for answer in answers]

    async def reports(self, run_id: str, fan_outs: Collection[str], *, wait_seconds: float) -> list[Report]:
        clock = asyncio.get_running_loop().time
        ends = clock() + wait_seconds
        wanted = tuple(dict.fromkeys(fan_outs))
        is_worth_a_sweep = False
        while True:
            last, found = await self._read(run_id, wanted)
            left = ends - clock()
            if found or is_worth_a_sweep or left <= 0:
                return found
            is_worth_a_sweep = bool(WORTH_A_SWEEP & await self._notices(run_id, last, left))

    async def close(self, run_id: str, epoch: int, slots: Sequence[Slot]) -> None:
        await self._owned("close", run_id, epoch, *flat_slots(slots))

    async def reset(self, run_id: str, epoch: int, slots: Sequence[Slot]) -> None:
        await self._owned("reset", run_id, epoch, *flat_slots(slots))

    async def sweep(self, run_id: str, epoch: int, outstanding: Sequence[Slot]) -> Sweep:
        by_fan_out: dict[str, list[tuple[int, int]]] = {}
        for slot in outstanding:
            by_fan_out.setdefault(slot.fan_out, []).append((slot.index, slot.generation))
        lapsed, overdue, declined, unknown = await self._owned("sweep", run_id, epoch, json.dumps(by_fan_out))
        return Sweep(
            lapsed=tuple(_lapse(row) for row in lapsed),
            overdue=tuple(Overdue(_slot(row), bool(row[3])) for row in overdue),
            declined=tuple(Declined(_slot(row), _text(row[3]), _text(row[4])) for row in declined),
            unknown=tuple(_unknown(run_id, row) for row in unknown),
        )

    async def cancel(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        await self._owned("cancel", run_id, epoch, fan_out or "")

    async def forget(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        """As promised; what is not there is forgotten already, so that it never raises LedgerLost."""
        await self._owned("forget", run_id, epoch, fan_out or "", int(TOMBSTONE_SECONDS))

    async def live(self, run_id: str, fan_out: str) -> list[LiveInstance]:
        rows = await self._call("live", run_id, 0, fan_out)
        return sorted((_live(fan_out, row) for row in rows), key=lambda one: one.slot.index)

    async def told(self, run_id: str, epoch: int, since: Mapping[Slot, int]) -> list[Progress]:
        flat = [part for slot, start in since.items() for part in (*flat_slots([slot]), start)]
        rows = await self._owned("told", run_id, epoch, LARGEST_ANSWER_BYTES, *flat)
        return [self._progress(run_id, slot, row) for slot, row in zip(since, rows, strict=True)]

    async def epoch(self, run_id: str) -> int:
        return int(await self._call("epoch", run_id, 0))

    async def created_at(self, run_id: str) -> str:
        told: bytes = await self._call("created_at", run_id, 0)
        return told.decode("utf-8", "replace")

    async def usage(self, run_id: str, fan_outs: Collection[str]) -> Usage:
        reported = int(await self._call("usage", run_id, 0, *fan_outs))
        try:
            with untraced():
                facts = await self._client().info("memory")
        except redis.RedisError as error:
            raise failure(error, self._url) from error
        return Usage(reported, int(facts["used_memory"]), int(facts.get("maxmemory", 0)))

    async def close_connections(self) -> None:
        """Let the connections of the running loop go; the next call makes new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _read(self, run_id: str, fan_outs: Sequence[str]) -> tuple[Mapping[str, bytes], list[Report]]:
        """The last notice of each, and what was reported before it."""
        last, *rows = await self._call("reports", run_id, 0, LARGEST_ANSWER_BYTES, *fan_outs)
        reports, broken = [], []
        for fan_out, index, text in rows:
            try:
                reports.append(read_report(run_id, text, self._seal, fan_out=fan_out.decode(), index=int(index)))
            except (SealBroken, ValueError) as error:
                facts = {"run_id": run_id, "index": int(index), "reason": str(error)}
                log.error("report refused, its instance runs again", extra=facts)
                broken += [fan_out, index, text]
        if broken:
            await self._call("discard", run_id, 0, *broken)
        return dict(zip(fan_outs, last, strict=True)), reports

    def _progress(self, run_id: str, slot: Slot, row: list[Any]) -> Progress:
        start, repeated, *texts = row
        # What cannot be believed is left out, so that each part is counted by itself.
        before, fresh = (read_entries(run_id, slot, part, self._seal) for part in (texts[:repeated], texts[repeated:]))
        return Progress(start + len(texts), (*before, *fresh), len(before))

    async def _notices(self, run_id: str, last: Mapping[str, bytes], wait_seconds: float) -> set[bytes]:
        """The kinds of the notices after `last`; empty where there is none for so long, or for 2 s."""
        seconds = min(wait_seconds, LONGEST_BLOCK_SECONDS)
        if not last:
            await asyncio.sleep(seconds)
            return set()
        streams: Any = {f"{self._keys.run(run_id)}{fan_out}:wake": notice for fan_out, notice in last.items()}
        try:
            with untraced():
                answer: Any = await self._client().xread(streams, block=max(1, int(seconds * 1000)))
        except redis.RedisError as error:
            raise failure(error, self._url) from error
        return {fields[b"kind"] for _, notices in answer for _, fields in notices}

    async def _owned(self, verb: str, run_id: str, epoch: int, *arguments: Any) -> Any:
        return await self._call(verb, run_id, epoch, epoch, *arguments)

    async def _call(self, verb: str, run_id: str, epoch: int, *arguments: Any) -> Any:
        now = "" if self._now is None else repr(self._now())
        try:
            with untraced():
                return await run_async(
                    self._client(), script(__package__, verb), 1, self._keys.run(run_id), now, *arguments
                )
        except redis.RedisError as error:
            raise failure(error, self._url, run_id=run_id, epoch=epoch) from error

    def _client(self) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = async_client(self._url, name=self._client_name)
        return client


def _batches(items: Iterable[QueuedItem]) -> Iterator[list[QueuedItem]]:
    """Cut where a call would stop the server for long."""
    batch: list[QueuedItem] = []
    size = 0
    for item in items:
        if batch and size + item.size > LARGEST_CALL_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    yield batch


def _lapse(row: list[Any]) -> Lapse:
    *_, owner, delivery, alone, handed_back = row
    return Lapse(_slot(row), _text(owner), delivery, bool(alone), handed_back=bool(handed_back))


def _unknown(run_id: str, row: list[Any]) -> Slot:
    slot = _slot(row)
    if row[3]:
        log.error("entry refused", extra={"run_id": run_id, "index": slot.index})
    return slot


def _queued(item: QueuedItem) -> tuple[str | int | bytes, ...]:
    return *flat_slots([item.slot]), item.deliveries, _shown(item.key), write_item(item)


def _shown(key: str | None) -> bytes:
    """The key for people; a claim is given the true one with its item."""
    return (key or "").encode("utf-8", "replace")


def _text(raw: bytes) -> str:
    """What a worker has said, or somebody in its place: whatever bytes these are, they stop nobody."""
    return raw.decode("utf-8", "replace")


def _slot(row: list[Any]) -> Slot:
    return Slot(row[0].decode(), row[1], row[2])


def _live(fan_out: str, row: list[Any]) -> LiveInstance:
    index, generation, stage, delivery, owner, key = row
    state = LiveState(stage.decode())
    worker = None if state is LiveState.QUEUED else worker_of(_text(owner))
    return LiveInstance(Slot(fan_out, int(index), generation), state, delivery, worker, _text(key) or None)
