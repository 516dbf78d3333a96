"""A whole record from rows, and rows from a whole record."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.checkpoint.compose import RecordRows, compose, decompose
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
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import FanOutKey, Slot
from orchestrator.report import Outcome, Report

TIME = datetime(2026, 1, 1, tzinfo=UTC)
KEY = FanOutKey((), "files")
RUN = Run(
    run_id="run-1",
    graph="app:graph",
    fingerprint="f1",
    correlation_id="c1",
    status=RunStatus.RUNNING,
    epoch=3,
    invocation_id="inv-2",
    created_at=TIME,
    schema_version="v1",
)
FAILURE = ErrorRecord("node_exception", "no", "ValueError")
DONE, FLYING, WAITING = InstanceState.COMPLETED, InstanceState.IN_FLIGHT, InstanceState.NOT_STARTED


def step(position: int, node: str = "a", **more) -> Step:
    told = {"namespace": (), "state": json.dumps({"after": node}), "step": position - 1, "saved_at": TIME, **more}
    return Step(position=position, node=node, **told)


FIRST = step(0, "", state='{"after": "nothing"}', step=0, schema_version="v1")


def slot(index: int, outcome: Outcome = Outcome.SUCCEEDED, **more) -> SlotRow:
    report = Report(
        slot=Slot(KEY.id, index),
        outcome=outcome,
        token="t",
        delivery=1,
        worker="w",
        invocation_id="inv-1",
        started_at=TIME,
        duration_seconds=1.0,
        **more,
    )
    return SlotRow(report, recorded_at=TIME)


def fan_out(count: int = 3, **more) -> FanOutRow:
    return FanOutRow(**{"key": KEY, "instance_count": count, "item_hashes": b"", "position": 1, **more})


def composed(*steps: Step, **more) -> CheckpointRecord:
    return compose(RecordRows(run=RUN, steps=[FIRST, *steps], **more))


def states(record: CheckpointRecord) -> list[list[InstanceState]]:
    return [[instance.state for instance in progress.instances] for progress in record.fan_out_progress]


def test_a_run_that_has_done_nothing_stands_at_its_first_state():
    record = composed()
    assert (record.run_id, record.invocation_id, record.correlation_id) == ("run-1", "inv-2", "c1")
    assert (record.graph, record.fingerprint, record.schema_version) == ("app:graph", "f1", "v1")
    assert record.state == {"after": "nothing"}
    assert record.completed_positions == record.parent_states == record.fan_out_progress == ()


def test_completed_positions_come_in_order_with_their_step_and_attempt():
    record = composed(step(1, "a"), step(2, "b", attempt_index=2))
    assert record.completed_positions == (
        NodePosition(namespace=(), node_name="a", step=0),
        NodePosition(namespace=(), node_name="b", step=1, attempt_index=2),
    )
    assert record.state == {"after": "b"}


def test_inside_an_open_subgraph_the_state_is_the_inner_one_and_the_outer_is_its_parent():
    record = composed(step(1, "a"), step(2, "inner", namespace=("sub",)))
    assert record.state == {"after": "inner"}
    assert record.parent_states == ({"after": "a"},)
    assert record.completed_positions[1].namespace == ("sub",)


def test_parent_states_are_outermost_first():
    record = composed(step(1, "a"), step(2, "b", namespace=("s",)), step(3, "c", namespace=("s", "t")))
    assert record.parent_states == ({"after": "a"}, {"after": "b"})


def test_a_subgraph_that_is_over_has_no_parent_states():
    record = composed(step(1, "inner", namespace=("sub",)), step(2, "sub"))
    assert (record.state, record.parent_states) == ({"after": "sub"}, ())


def test_a_graph_without_a_completed_node_of_its_own_since_it_was_entered_has_no_state_yet():
    first_turn = (step(1, "b", namespace=("s",)), step(2, "s"))
    record = composed(*first_turn, step(3, "c", namespace=("s", "t")))
    assert record.parent_states == ({"after": "s"}, None)


def test_the_schema_version_is_the_outermost_graphs():
    record = composed(step(1, "a", schema_version="v2"), step(2, "b", namespace=("sub",), schema_version="inner-7"))
    assert record.schema_version == "v2"


def test_the_last_save_is_the_latest_of_steps_and_reports():
    later = replace(slot(0, partial="1"), recorded_at=TIME + timedelta(seconds=2))
    record = composed(step(1, saved_at=TIME + timedelta(seconds=1)), fan_outs=[fan_out()], slots=[later])
    assert record.last_saved_at == TIME.timestamp() + 2


def test_a_contribution_is_completed_an_error_row_in_flight_and_the_rest_not_started():
    record = composed(fan_outs=[fan_out(4)], slots=[slot(0, partial='{"out":1}')], errors=[slot(2, Outcome.FAILED)])
    assert states(record) == [[DONE, WAITING, FLYING, WAITING]]
    assert record.fan_out_progress[0].instances[0].result == {"out": 1}


def test_a_contribution_counts_more_than_an_error_row():
    assert states(composed(fan_outs=[fan_out(1)], slots=[slot(0)], errors=[slot(0, Outcome.FAILED)])) == [[DONE]]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST, Outcome.CANCELLED])
def test_an_unsuccessful_contribution_is_a_result_that_is_an_error(outcome):
    record = composed(fan_outs=[fan_out(1)], slots=[slot(0, outcome, error=FAILURE)])
    (instance,) = record.fan_out_progress[0].instances
    assert (instance.state, instance.result_is_error) == (DONE, True)
    assert ErrorRecord.from_json(instance.result) == FAILURE


def test_a_value_that_looks_like_an_error_stays_a_result():
    record = composed(fan_outs=[fan_out(1)], slots=[slot(0, partial=json.dumps(FAILURE.to_json()))])
    assert not record.fan_out_progress[0].instances[0].result_is_error


def test_a_folded_fan_out_is_no_progress():
    assert states(composed(fan_outs=[fan_out(fold=Fold(KEY.id, 3, "h"))], slots=[slot(0)])) == []


def test_a_fan_out_that_a_later_step_of_its_node_ended_is_no_progress():
    left = step(1, "files")
    again = fan_out(2, key=FanOutKey((), "files", visit=1), position=2)
    record = composed(left, fan_outs=[fan_out(3), again])
    assert [progress.visit for progress in record.fan_out_progress] == [1]


def test_what_completed_inside_an_instance_belongs_to_the_instance():
    inner = step(1, "parse", namespace=("files",), lineage=KEY.enclosing(1))
    record = composed(inner, fan_outs=[fan_out(2)])
    assert record.completed_positions == ()
    assert record.state == {"after": "nothing"}
    assert states(record) == [[WAITING, FLYING]]
    (position,) = record.fan_out_progress[0].instances[1].completed_inner_positions
    assert (position.node_name, position.fan_out_index) == ("parse", 1)


def test_what_completed_in_an_earlier_visit_is_not_of_this_one():
    earlier = step(1, "parse", namespace=("files",), lineage=KEY.enclosing(0))
    again = fan_out(1, key=FanOutKey((), "files", visit=1), position=3)
    assert states(composed(earlier, step(2, "files"), fan_outs=[again])) == [[WAITING]]


def test_fan_outs_of_one_name_in_different_instances_do_not_mix():
    keys = [FanOutKey(("files",), "pages", KEY.enclosing(index)) for index in range(2)]
    rows = [fan_out(1, key=key) for key in keys]
    of_second = replace(slot(0), report=replace(slot(0).report, slot=Slot(keys[1].id, 0)))
    record = composed(fan_outs=rows, slots=[of_second])
    assert states(record) == [[WAITING], [DONE]]
    assert [progress.enclosing_fan_out_lineage for progress in record.fan_out_progress] == [
        KEY.enclosing(0),
        KEY.enclosing(1),
    ]


SEEDED = CheckpointRecord(
    run_id="run-1",
    invocation_id="inv-2",
    correlation_id="c1",
    state={"x": 2},
    completed_positions=(NodePosition(namespace=(), node_name="a", step=0),),
    last_saved_at=1_790_000_000.125,
    schema_version="v1",
    fan_out_progress=(
        FanOutProgress(
            fan_out_node_name="files",
            namespace=(),
            instance_count=3,
            instances=(
                FanOutInstanceProgress(state=DONE, result=1),
                FanOutInstanceProgress(state=FLYING),
                FanOutInstanceProgress(),
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    "record",
    [
        SEEDED,
        replace(SEEDED, completed_positions=(), fan_out_progress=()),
        replace(
            SEEDED,
            parent_states=({"outer": 1},),
            completed_positions=(NodePosition(namespace=("sub",), node_name="b", step=1),),
        ),
        replace(
            SEEDED,
            parent_states=({"outer": 1}, None),
            completed_positions=(
                NodePosition(namespace=("s",), node_name="b", step=1),
                NodePosition(namespace=(), node_name="s", step=2),
                NodePosition(namespace=("s", "t"), node_name="c", step=3),
            ),
        ),
    ],
    ids=["fan-out", "nothing done", "in a subgraph", "in a subgraph's first node"],
)
def test_taking_a_record_apart_loses_nothing(record):
    assert compose(decompose(record)) == record


def test_a_seeded_record_goes_on_after_its_last_position():
    rows = decompose(SEEDED)
    assert [one.position for one in rows.steps] == [0, 1]
    assert [row.position for row in rows.fan_outs] == [2]
    assert (rows.run.status, rows.run.epoch, rows.run.owner) == (RunStatus.SUBMITTED, 0, None)


@pytest.mark.parametrize(
    "record",
    [
        replace(SEEDED, parent_states=({"outer": 1},)),
        replace(SEEDED, completed_positions=(NodePosition(namespace=("sub",), node_name="b", step=1),)),
    ],
    ids=["a parent too many", "a parent too few"],
)
def test_states_that_do_not_fit_the_last_position_are_refused(record):
    with pytest.raises(CheckpointRecordInvalid, match="parent state"):
        decompose(record)


def test_a_failed_result_that_is_no_error_record_is_refused():
    failed = FanOutInstanceProgress(state=DONE, result={"oops": 1}, result_is_error=True)
    progress = replace(SEEDED.fan_out_progress[0], instances=(failed,), instance_count=1)
    with pytest.raises(CheckpointRecordInvalid, match="no error record"):
        decompose(replace(SEEDED, fan_out_progress=(progress,)))
