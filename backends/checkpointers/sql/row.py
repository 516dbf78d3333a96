"""The engine's rows as columns, and back."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from backends.checkpointers.sql.clock import to_number, to_optional_time, to_time
from orchestrator.checkpoint.row import FanOutRow, Loss, Run, RunStatus, SlotRow, Step
from orchestrator.error_record import ErrorRecord
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import EnclosingInstance, FanOutKey, Lineage, Slot
from orchestrator.metadata import Metadata, read_back
from orchestrator.report import Outcome, Position, Report

Columns = dict[str, Any]


def to_json(value: Any) -> str:
    """Compact JSON text; whatever a string holds, it comes out as plain ASCII that every database takes."""
    return json.dumps(value, separators=(",", ":"))


def optional_json(value: Any) -> str | None:
    """The same where a column may be empty."""
    return None if value is None else to_json(value)


def error_text(error: ErrorRecord | None) -> str | None:
    """An error as its column keeps it."""
    return None if error is None else to_json(error.to_json())


def run_of(row: Row[Any], *, is_live: bool) -> Run:
    """A row of the runs; `is_live` says whether its lease has not ended."""
    status = RunStatus(row.status)
    return Run(
        run_id=row.run_id,
        graph=row.graph,
        fingerprint=row.fingerprint,
        correlation_id=row.correlation_id,
        status=RunStatus.ORPHANED if status is RunStatus.RUNNING and not is_live else status,
        epoch=row.epoch,
        invocation_id=row.invocation_id,
        created_at=to_time(row.created_at),
        schema_version=row.schema_version,
        code_version=row.code_version,
        owner=row.owner,
        lease_until=to_optional_time(row.lease_until),
        ended_at=to_optional_time(row.ended_at),
        is_cancel_requested=row.is_cancel_requested,
        health=row.health,
        error=_error_of(row.error),
        metadata=read_back(json.loads(row.metadata or "{}")),
    )


def metadata_text(metadata: Metadata) -> str | None:
    """Metadata as their column keeps them, empty where there are none."""
    return to_json(dict(metadata)) if metadata else None


def step_columns(step: Step) -> Columns:
    """A step, without its run and its time."""
    return {
        "position": step.position,
        "namespace": to_json(step.namespace),
        "node": step.node,
        "state": step.state,
        "step": step.step,
        "attempt_index": step.attempt_index,
        "lineage": to_json([enclosing.to_json() for enclosing in step.lineage]),
        "invocation_id": step.invocation_id,
        "schema_version": step.schema_version,
        "folds": _folds_text(step.folds),
        "metadata": metadata_text(step.metadata),
    }


def step_of(row: Row[Any]) -> Step:
    """A row of the steps."""
    return Step(
        position=row.position,
        namespace=tuple(json.loads(row.namespace)),
        node=row.node,
        state=row.state,
        step=row.step,
        attempt_index=row.attempt_index,
        lineage=_lineage_of(row.lineage),
        invocation_id=row.invocation_id,
        schema_version=row.schema_version,
        saved_at=to_time(row.saved_at),
        folds=_folds_of(row.folds),
        metadata=read_back(json.loads(row.metadata or "{}")),
    )


def fan_out_columns(row: FanOutRow) -> Columns:
    """An entered fan-out, without its run, its place in order, its time and its fold."""
    return {
        "fan_out": row.id,
        "key": to_json(row.key.to_json()),
        "position": row.position,
        "instance_count": row.instance_count,
        "item_hashes": row.item_hashes,
        "item_keys": optional_json(row.item_keys),
        "item_tags": optional_json(row.item_tags),
    }


def fan_out_of(row: Row[Any]) -> FanOutRow:
    """A row of the fan-outs."""
    return FanOutRow(
        key=FanOutKey.from_json(json.loads(row.key)),
        instance_count=row.instance_count,
        item_hashes=bytes(row.item_hashes),
        item_keys=None if row.item_keys is None else tuple(json.loads(row.item_keys)),
        item_tags=None if row.item_tags is None else tuple(json.loads(row.item_tags)),
        position=row.position,
        opened_at=to_time(row.opened_at),
        fold=None if row.fold_hash is None else Fold(row.fan_out, row.fold_count, row.fold_hash),
    )


def slot_columns(row: SlotRow) -> Columns:
    """A recorded report, without its run and its time."""
    report = row.report
    return {
        "fan_out": report.slot.fan_out,
        "idx": report.slot.index,
        "generation": report.slot.generation,
        "outcome": report.outcome.value,
        "delivery": report.delivery,
        "attempts": report.attempts,
        "token": report.token,
        "worker": report.worker,
        "invocation_id": report.invocation_id,
        "code_version": report.code_version,
        "started_at": to_number(report.started_at),
        "duration_seconds": report.duration_seconds,
        "key": optional_json(row.key),
        "partial": report.partial,
        "error": error_text(report.error),
        "folds": _folds_text(report.folds),
        "positions": to_json([one.to_json() for one in report.positions]) if report.positions else None,
    }


def slot_of(row: Row[Any], *, is_contribution: bool) -> SlotRow:
    """A row of the slots, or of their errors."""
    report = Report(
        slot=Slot(row.fan_out, row.idx, row.generation),
        outcome=Outcome(row.outcome),
        token=row.token,
        delivery=row.delivery,
        worker=row.worker,
        invocation_id=row.invocation_id,
        started_at=to_time(row.started_at),
        duration_seconds=row.duration_seconds,
        attempts=row.attempts,
        partial=row.partial,
        error=_error_of(row.error),
        code_version=row.code_version,
        folds=_folds_of(row.folds),
        positions=() if row.positions is None else tuple(map(Position.from_json, json.loads(row.positions))),
    )
    key = None if row.key is None else json.loads(row.key)
    return SlotRow(report, is_contribution, key, to_time(row.recorded_at))


def loss_columns(loss: Loss) -> Columns:
    """A lost delivery, without its run."""
    return {
        "fan_out": loss.slot.fan_out,
        "idx": loss.slot.index,
        "generation": loss.slot.generation,
        "delivery": loss.delivery,
        "worker": loss.worker,
        "is_charged": loss.is_charged,
    }


def loss_of(row: Row[Any]) -> Loss:
    """A row of the losses."""
    return Loss(Slot(row.fan_out, row.idx, row.generation), row.worker, row.delivery, row.is_charged)


def of_run(run: int, rows: Iterable[Columns], **more: Any) -> list[Columns]:
    """The columns of many rows, with those that are the same in all of them."""
    return [{"run": run, **more, **columns} for columns in rows]


def _error_of(text: str | None) -> ErrorRecord | None:
    return None if text is None else ErrorRecord.from_json(json.loads(text))


def _lineage_of(text: str) -> Lineage:
    return tuple(EnclosingInstance.from_json(step) for step in json.loads(text))


def _folds_text(folds: Iterable[Fold]) -> str | None:
    told = [[fold.fan_out, fold.count, fold.hash] for fold in folds]
    return to_json(told) if told else None


def _folds_of(text: str | None) -> tuple[Fold, ...]:
    return () if text is None else tuple(Fold(*fold) for fold in json.loads(text))
