"""A whole record from rows, and back: the same for every store."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.checkpoint.record import (
    CheckpointRecord,
    FanOutInstanceProgress,
    FanOutProgress,
    InstanceState,
    NodePosition,
)
from orchestrator.checkpoint.row import FanOutRow, Run, RunStatus, SlotRow, Step
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CheckpointRecordInvalid
from orchestrator.identity import FanOutKey, Lineage, Slot
from orchestrator.report import Outcome, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRows:
    """The rows of one run; slots and errors are needed of fan-outs that are not folded, the latest generation each."""

    run: Run
    steps: Sequence[Step]
    fan_outs: Sequence[FanOutRow] = ()
    slots: Sequence[SlotRow] = ()
    errors: Sequence[SlotRow] = ()


def compose(rows: RecordRows) -> CheckpointRecord:
    """The record of a run's latest invocation.

    `state` is the one after the last node outside any instance; where that node stands in a subgraph, `parent_states`
    are the enclosing graphs' states, with None for a graph none of whose own nodes has completed since it was entered.
    """
    outer = [step for step in rows.steps if not step.lineage]
    outermost = [step for step in outer if not step.namespace]
    return CheckpointRecord(
        run_id=rows.run.run_id,
        invocation_id=rows.run.invocation_id,
        correlation_id=rows.run.correlation_id,
        state=json.loads(outer[-1].state),
        completed_positions=tuple(_position(step) for step in outer if step.position > 0),
        last_saved_at=_last_saved_at(rows),
        parent_states=_parent_states(outer),
        schema_version=outermost[-1].schema_version or rows.run.schema_version,
        fan_out_progress=_progress(rows),
        graph=rows.run.graph,
        fingerprint=rows.run.fingerprint,
    )


def decompose(record: CheckpointRecord) -> RecordRows:
    """The rows of which `compose` makes this record again; what a record does not say is left empty in them.

    Raises:
        CheckpointRecordInvalid: the states do not fit the last completed position.
    """
    saved_at = datetime.fromtimestamp(record.last_saved_at, UTC)
    next_position = len(record.completed_positions) + 1
    fan_outs = [_fan_out_row(progress, next_position, saved_at) for progress in record.fan_out_progress]
    slots: list[SlotRow] = []
    errors: list[SlotRow] = []
    for row, progress in zip(fan_outs, record.fan_out_progress, strict=True):
        slots += _contributions(record, row.id, progress)
        errors += _error_rows(record, row.id, progress)
    return RecordRows(
        run=_run(record, saved_at),
        steps=list(_steps(record, fan_outs)),
        fan_outs=fan_outs,
        slots=slots,
        errors=errors,
    )


def _position(step: Step) -> NodePosition:
    return NodePosition(
        namespace=step.namespace,
        node_name=step.node,
        step=step.step,
        attempt_index=step.attempt_index,
        fan_out_index=step.lineage[-1].index if step.lineage else None,
    )


def _parent_states(outer: Sequence[Step]) -> tuple[Any, ...]:
    namespace = outer[-1].namespace
    states: list[Any] = []
    entered_after = -1
    for depth in range(len(namespace)):
        latest = None
        for step in outer:
            if step.namespace == namespace[:depth] and step.position > entered_after:
                latest = step
        entered_after = entered_after if latest is None else latest.position
        states.append(None if latest is None else json.loads(latest.state))
    return tuple(states)


def _last_saved_at(rows: RecordRows) -> float:
    times = [step.saved_at for step in rows.steps]
    times += [row.recorded_at for row in (*rows.slots, *rows.errors)]
    return max(time.timestamp() for time in times if time is not None)


def _progress(rows: RecordRows) -> tuple[FanOutProgress, ...]:
    slots = _by_fan_out(rows.slots)
    errors = _by_fan_out(rows.errors)
    inner: dict[Lineage, list[Step]] = defaultdict(list)
    for step in rows.steps:
        if step.lineage:
            inner[step.lineage].append(step)
    return tuple(
        FanOutProgress(
            fan_out_node_name=row.key.node,
            namespace=row.key.namespace,
            instance_count=row.instance_count,
            instances=tuple(
                _instance(slots[row.id].get(index), errors[row.id].get(index), _inner_positions(row, index, inner))
                for index in range(row.instance_count)
            ),
            enclosing_fan_out_lineage=row.key.lineage,
            visit=row.key.visit,
        )
        for row in rows.fan_outs
        if row.fold is None and not _is_over(row, rows.steps)
    )


def _is_over(row: FanOutRow, steps: Sequence[Step]) -> bool:
    place = (row.key.namespace, row.key.node, row.key.lineage)
    return any(step.position >= row.position and (step.namespace, step.node, step.lineage) == place for step in steps)


def _by_fan_out(rows: Iterable[SlotRow]) -> dict[str, dict[int, SlotRow]]:
    found: dict[str, dict[int, SlotRow]] = defaultdict(dict)
    for row in rows:
        found[row.report.slot.fan_out][row.report.slot.index] = row
    return found


def _inner_positions(row: FanOutRow, index: int, inner: dict[Lineage, list[Step]]) -> tuple[NodePosition, ...]:
    return tuple(_position(step) for step in inner.get(row.key.enclosing(index), ())) if inner else ()


def _instance(
    contribution: SlotRow | None, failure: SlotRow | None, positions: tuple[NodePosition, ...]
) -> FanOutInstanceProgress:
    if contribution is None:
        state = InstanceState.IN_FLIGHT if failure or positions else InstanceState.NOT_STARTED
        reached = positions if failure is None else (*positions, *_reached(failure.report))
        return FanOutInstanceProgress(state=state, completed_inner_positions=reached)
    report = contribution.report
    is_error = report.outcome is not Outcome.SUCCEEDED
    return FanOutInstanceProgress(
        state=InstanceState.COMPLETED,
        result=_error_value(report) if is_error else json.loads(report.partial or "null"),
        result_is_error=is_error,
        completed_inner_positions=positions,
    )


def _reached(report: Report) -> tuple[NodePosition, ...]:
    return tuple(
        NodePosition(
            namespace=one.namespace,
            node_name=one.node,
            step=one.step,
            attempt_index=one.attempt_index,
            fan_out_index=report.slot.index,
        )
        for one in report.positions
    )


def _error_value(report: Report) -> Any:
    # Through text, so that tuples are lists as in every other JSON value of a record.
    return None if report.error is None else json.loads(json.dumps(report.error.to_json()))


def _run(record: CheckpointRecord, saved_at: datetime) -> Run:
    return Run(
        run_id=record.run_id,
        graph=record.graph,
        fingerprint=record.fingerprint,
        correlation_id=record.correlation_id,
        status=RunStatus.SUBMITTED,
        epoch=0,
        invocation_id=record.invocation_id,
        created_at=saved_at,
        schema_version=record.schema_version,
    )


def _steps(record: CheckpointRecord, fan_outs: Sequence[FanOutRow]) -> Iterator[Step]:
    states = (*record.parent_states, record.state)
    depth = len(record.completed_positions[-1].namespace) if record.completed_positions else 0
    if depth != len(record.parent_states):
        raise CheckpointRecordInvalid(
            f"this record has {len(record.parent_states)} parent states, but its last completed node stands in {depth} "
            "subgraphs; give one parent state for each of them"
        )
    first = NodePosition(namespace=(), node_name="", step=0)
    placed: list[tuple[NodePosition, Lineage]] = [(first, ())]
    placed += [(position, ()) for position in record.completed_positions]
    for row, progress in zip(fan_outs, record.fan_out_progress, strict=True):
        for index, instance in enumerate(progress.instances):
            placed += [(position, row.key.enclosing(index)) for position in instance.completed_inner_positions]
    saved_at = datetime.fromtimestamp(record.last_saved_at, UTC)
    for number, (position, lineage) in enumerate(placed):
        level = len(position.namespace)
        state = states[level] if level < len(states) and not lineage else None
        yield Step(
            position=number,
            namespace=position.namespace,
            node=position.node_name,
            state=json.dumps(state),
            step=position.step,
            attempt_index=position.attempt_index,
            lineage=lineage,
            invocation_id=record.invocation_id,
            schema_version=record.schema_version,
            saved_at=saved_at,
        )


def _fan_out_row(progress: FanOutProgress, position: int, opened_at: datetime) -> FanOutRow:
    key = FanOutKey(progress.namespace, progress.fan_out_node_name, progress.enclosing_fan_out_lineage, progress.visit)
    return FanOutRow(
        key=key,
        instance_count=progress.instance_count,
        item_hashes=b"",
        position=position,
        opened_at=opened_at,
    )


def _contributions(record: CheckpointRecord, fan_out: str, progress: FanOutProgress) -> Iterator[SlotRow]:
    for index, instance in enumerate(progress.instances):
        if instance.state is not InstanceState.COMPLETED:
            continue
        slot = Slot(fan_out, index)
        if instance.result_is_error:
            error = None if instance.result is None else _error(instance.result)
            report = _report(record, slot, Outcome.FAILED, error=error)
        else:
            report = _report(record, slot, Outcome.SUCCEEDED, partial=json.dumps(instance.result))
        yield SlotRow(report, recorded_at=report.started_at)


def _error_rows(record: CheckpointRecord, fan_out: str, progress: FanOutProgress) -> Iterator[SlotRow]:
    for index, instance in enumerate(progress.instances):
        if instance.state is InstanceState.IN_FLIGHT and not instance.completed_inner_positions:
            report = _report(record, Slot(fan_out, index), Outcome.CANCELLED)
            yield SlotRow(report, is_contribution=False, recorded_at=report.started_at)


def _error(result: Any) -> ErrorRecord:
    try:
        return ErrorRecord.from_json(result)
    except (TypeError, AttributeError) as error:
        raise CheckpointRecordInvalid(
            "the result of a failed instance is no error record; give it category, message and type"
        ) from error


def _report(
    record: CheckpointRecord,
    slot: Slot,
    outcome: Outcome,
    *,
    partial: str | None = None,
    error: ErrorRecord | None = None,
) -> Report:
    return Report(
        slot=slot,
        outcome=outcome,
        token="",
        delivery=1,
        worker="",
        invocation_id=record.invocation_id,
        started_at=datetime.fromtimestamp(record.last_saved_at, UTC),
        duration_seconds=0.0,
        partial=partial,
        error=error,
    )
