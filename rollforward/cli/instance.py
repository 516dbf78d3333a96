"""The instances of a run as people see them: what is recorded, what the ledger has, and what has not begun."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from orchestrator.checkpoint.row import FanOutRow, SlotRow
from orchestrator.error_record import ErrorRecord
from orchestrator.ledger.view import LiveInstance, LiveState
from rollforward.cli.record import Record, lineage_json

STATES = ("pending", "queued", "running", "retrying", "succeeded", "failed", "lost", "cancelled")


@dataclass(frozen=True, slots=True)
class Span:
    """The indexes from `start` up to, not including, `stop`."""

    start: int = 0
    stop: int | None = None

    def of(self, row: FanOutRow) -> range:
        stop = row.instance_count if self.stop is None else min(self.stop, row.instance_count)
        return range(self.start, stop)


def state_of(live: LiveInstance) -> str:
    """The state of an instance that is not recorded; what is reported runs until it is recorded."""
    if live.state is LiveState.QUEUED:
        return "retrying" if live.delivery else "queued"
    return "running"


async def instances(record: Record, row: FanOutRow, span: Span) -> AsyncIterator[dict[str, Any]]:
    """Every instance of one fan-out, by index, as an object for scripts."""
    run_id = record.run.run_id
    rest = {live.slot.index: live for live in await record.live.instances(run_id, row.id)}
    refused = {slot.report.slot.index: slot async for slot in record.store.errors(run_id, row.id)}
    indexes = span.of(row)
    next_index = indexes.start
    async for slot in record.store.slots(run_id, row.id, start=indexes.start, stop=indexes.stop):
        for index in range(next_index, slot.report.slot.index):
            yield _unrecorded(row, index, rest.get(index), refused.get(index))
        yield _recorded(row, slot, record.run.invocation_id)
        next_index = slot.report.slot.index + 1
    for index in range(next_index, indexes.stop):
        yield _unrecorded(row, index, rest.get(index), refused.get(index))


def error_json(error: ErrorRecord | None) -> dict[str, Any] | None:
    """An error without its traceback."""
    return None if error is None else {"category": error.shown_category, "type": error.type, "message": error.message}


def _recorded(row: FanOutRow, slot: SlotRow, invocation_id: str) -> dict[str, Any]:
    report = slot.report
    return {
        **_identity(row, report.slot.index, slot.key),
        "state": report.outcome.value,
        "delivery_attempt": report.delivery,
        "attempts": report.attempts,
        "worker": report.worker,
        "error": error_json(report.error),
        "started_at": report.started_at,
        "duration_seconds": report.duration_seconds,
        "rolled_forward": report.invocation_id != invocation_id,
        "code_version": report.code_version,
    }


def _unrecorded(row: FanOutRow, index: int, live: LiveInstance | None, refused: SlotRow | None) -> dict[str, Any]:
    identity = _identity(row, index, None)
    if live is None and refused is not None:
        return {**_recorded(row, refused, refused.report.invocation_id), **identity}
    return {
        **identity,
        "state": "pending" if live is None else state_of(live),
        "delivery_attempt": 0 if live is None else live.delivery,
        "attempts": 0,
        "worker": None if live is None else live.worker,
        "error": None,
        "started_at": None,
        "duration_seconds": None,
        "rolled_forward": False,
        "code_version": None,
    }


def _identity(row: FanOutRow, index: int, key: str | None) -> dict[str, Any]:
    return {
        "fan_out": row.key.path,
        "lineage": lineage_json(row.key.lineage),
        "visit": row.key.visit,
        "fan_out_index": index,
        "key": key if key is not None or row.item_keys is None else row.item_keys[index],
        "tags": {} if row.item_tags is None else row.item_tags[index],
    }
