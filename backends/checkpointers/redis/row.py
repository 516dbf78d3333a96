"""The engine's rows as the store keeps them, and back."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.checkpoint.row import FanOutRow, Loss, Run, RunStatus, SlotRow, Step, Tally
from orchestrator.error_record import ErrorRecord
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import EnclosingInstance, FanOutKey, Slot
from orchestrator.metadata import Metadata, read_back
from orchestrator.report import Outcome, Report

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(span: timedelta) -> int:
    """A time span as the scripts count it."""
    return span // _MICROSECOND


def to_number(time: datetime) -> int:
    """A time as the store keeps it."""
    return (time - _EPOCH) // _MICROSECOND


def to_time(number: bytes | int) -> datetime:
    """A time as the store keeps it, read back."""
    return _EPOCH + int(number) * _MICROSECOND


def error_text(error: ErrorRecord | None) -> str:
    """An error, empty where there is none."""
    return "" if error is None else _to_json(error.to_json())


def folds_text(folds: Iterable[Fold]) -> str:
    """Folds as the scripts read them."""
    return _to_json([[fold.fan_out, fold.count, fold.hash] for fold in folds])


def run_of(fields: Mapping[bytes, bytes], now: datetime) -> Run:
    """A run, as it stands at this time of the server."""
    told = {name.decode(): value.decode() for name, value in fields.items()}
    status = RunStatus(told["status"])
    lease_until = _optional_time(told.get("lease_until"))
    if status is RunStatus.RUNNING and (lease_until is None or lease_until <= now):
        status = RunStatus.ORPHANED
    return Run(
        run_id=told["run_id"],
        graph=told["graph"],
        fingerprint=told["fingerprint"],
        correlation_id=told["correlation_id"],
        status=status,
        epoch=int(told["epoch"]),
        invocation_id=told["invocation_id"],
        created_at=to_time(int(told["created_at"])),
        schema_version=told["schema_version"],
        code_version=told.get("code_version"),
        owner=told.get("owner"),
        lease_until=lease_until,
        ended_at=_optional_time(told.get("ended_at")),
        is_cancel_requested="is_cancel_requested" in told,
        health=told.get("health"),
        error=ErrorRecord.from_json(json.loads(told["error"])) if "error" in told else None,
        metadata=read_back(json.loads(told.get("metadata", "{}"))),
    )


def metadata_text(metadata: Metadata) -> str:
    """A run's metadata, as its row keeps it."""
    return _to_json(dict(metadata))


def step_text(step: Step) -> str:
    """A step, without its position and its time."""
    return _to_json(
        {
            "namespace": step.namespace,
            "node": step.node,
            "state": step.state,
            "step": step.step,
            "attempt_index": step.attempt_index,
            "lineage": [enclosing.to_json() for enclosing in step.lineage],
            "invocation_id": step.invocation_id,
            "schema_version": step.schema_version,
            "folds": [[fold.fan_out, fold.count, fold.hash] for fold in step.folds],
            **({"metadata": dict(step.metadata)} if step.metadata else {}),
        }
    )


def step_of(position: bytes, value: bytes) -> Step:
    """A step, read back."""
    saved_at, text = value.split(b"\n", 1)
    told = json.loads(text)
    return Step(
        position=int(position),
        namespace=tuple(told["namespace"]),
        node=told["node"],
        state=told["state"],
        step=told["step"],
        attempt_index=told["attempt_index"],
        lineage=tuple(EnclosingInstance.from_json(enclosing) for enclosing in told["lineage"]),
        invocation_id=told["invocation_id"],
        schema_version=told["schema_version"],
        saved_at=to_time(saved_at),
        folds=tuple(Fold(*fold) for fold in told["folds"]),
        metadata=read_back(told.get("metadata", {})),
    )


def fan_out_parts(row: FanOutRow) -> list[str | bytes]:
    """An entered fan-out: its id, its facts, its item hashes, its item keys and its item tags."""
    facts = {"key": row.key.to_json(), "position": row.position, "instance_count": row.instance_count}
    named = ["" if told is None else _to_json(told) for told in (row.item_keys, row.item_tags)]
    return [row.id, _to_json(facts), row.item_hashes, *named]


def fan_out_of(facts: bytes, hashes: bytes, *named: bytes | None) -> FanOutRow:
    """An entered fan-out, read back; `named` are its item keys, its item tags and its fold."""
    keys, tags, fold = named
    opened_at, text = facts.split(b"\n", 1)
    told = json.loads(text)
    key = FanOutKey.from_json(told["key"])
    count, _, digest = (fold or b"").partition(b" ")
    return FanOutRow(
        key=key,
        instance_count=told["instance_count"],
        item_hashes=hashes,
        item_keys=None if keys is None else tuple(json.loads(keys)),
        item_tags=None if tags is None else tuple(json.loads(tags)),
        position=told["position"],
        opened_at=to_time(opened_at),
        fold=Fold(key.id, int(count), digest.decode()) if fold else None,
    )


def slot_parts(row: SlotRow) -> list[str | int | bytes]:
    """A recorded report as `record.lua` takes it."""
    report, slot = row.report, row.report.slot
    kind = "contribution" if row.is_contribution else "error"
    text = _to_json(row.key).encode() + b"\n" + report.to_json()
    counted = [report.outcome.value, report.delivery, folds_text(report.folds)]
    return [slot.fan_out, slot.index, slot.generation, kind, *counted, text]


def slot_of(value: bytes, *, is_contribution: bool) -> SlotRow:
    """A recorded report, read back."""
    head, key, report = value.split(b"\n", 2)
    return SlotRow(Report.from_json(report), is_contribution, json.loads(key), to_time(head.split(b" ")[0]))


def loss_parts(loss: Loss) -> list[str | int]:
    """A lost delivery as `record_losses.lua` takes it."""
    slot = loss.slot
    return [slot.fan_out, f"{slot.index}:{slot.generation}", loss.delivery, int(loss.is_charged), loss.worker]


def loss_of(fan_out: str, field: bytes, value: bytes) -> Loss:
    """A lost delivery, read back."""
    index, generation, delivery = map(int, field.split(b":"))
    return Loss(Slot(fan_out, index, generation), value[1:].decode(), delivery, value[:1] == b"1")


def tally_of(fan_out: str, fields: Mapping[bytes, bytes]) -> Tally:
    """The counts of a fan-out."""
    numbers = {name.decode(): int(value) for name, value in fields.items()}
    return Tally(
        fan_out=fan_out,
        **{outcome.value: numbers.get(outcome.value, 0) for outcome in Outcome},
        deliveries=numbers.get("deliveries", 0),
        losses=numbers.get("losses", 0),
        first_at=_optional_time(numbers.get("first_at")),
        last_at=_optional_time(numbers.get("last_at")),
    )


def _optional_time(number: str | int | None) -> datetime | None:
    return None if number is None else to_time(int(number))


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
