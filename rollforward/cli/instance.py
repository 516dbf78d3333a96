"""The instances of a run as people see them: what is recorded, what the ledger has, and what has not begun."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.checkpoint.row import FanOutRow, RunStatus, SlotRow
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


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """The instances of one fan-out that have contributed nothing, as far as is known of each.

    `live` is what the ledger has of them, `refused` their error rows, `else_state` the state of all others.
    """

    live: Mapping[int, LiveInstance]
    refused: Mapping[int, SlotRow]
    else_state: str

    @classmethod
    async def of(cls, record: Record, row: FanOutRow) -> "Unrecorded":
        """Look at the ledger, where the fan-out still goes on, and at the record."""
        run = record.run
        live = await record.live.instances(run.run_id, row.id) if row.fold is None else []
        refused = {slot.report.slot.index: slot async for slot in record.store.errors(run.run_id, row.id)}
        return cls(
            live={one.slot.index: one for one in live if _goes_on(run.status, one)},
            refused=refused,
            # Nothing ever goes on with a cancelled run, so whatever it had not done is cancelled with it.
            else_state="cancelled" if run.status is RunStatus.CANCELLED else "pending",
        )

    def state(self, index: int) -> str:
        """The state of one of them; what is reported runs until it is recorded."""
        live = self.live.get(index)
        if live is None:
            return self.refused[index].report.outcome.value if index in self.refused else self.else_state
        if live.state is LiveState.QUEUED:
            return "retrying" if live.delivery else "queued"
        return "running"

    def counts(self, count: int) -> Counter[str]:
        """How many of so many are in which state."""
        counts = Counter(self.state(index) for index in self.live.keys() | self.refused.keys())
        counts[self.else_state] += max(count - counts.total(), 0)
        return counts


def _goes_on(status: RunStatus, live: LiveInstance) -> bool:
    """Whether the ledger still speaks of it: in a run that has ended no worker is waited for, only some may work on."""
    return status is not RunStatus.CANCELLED and not (status.has_ended and live.state is LiveState.QUEUED)


async def instances(record: Record, row: FanOutRow, span: Span) -> AsyncIterator[dict[str, Any]]:
    """Every instance of one fan-out, by index, as an object for scripts."""
    run_id = record.run.run_id
    rest = await Unrecorded.of(record, row)
    indexes = span.of(row)
    next_index = indexes.start
    async for slot in record.store.slots(run_id, row.id, start=indexes.start, stop=indexes.stop):
        for index in range(next_index, slot.report.slot.index):
            yield _unrecorded(row, index, rest)
        yield _recorded(row, slot, record.run.invocation_id)
        next_index = slot.report.slot.index + 1
    for index in range(next_index, indexes.stop):
        yield _unrecorded(row, index, rest)


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


def _unrecorded(row: FanOutRow, index: int, rest: Unrecorded) -> dict[str, Any]:
    identity, live, refused = _identity(row, index, None), rest.live.get(index), rest.refused.get(index)
    if live is None and refused is not None:
        return {**_recorded(row, refused, refused.report.invocation_id), **identity}
    return {
        **identity,
        "state": rest.state(index),
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
