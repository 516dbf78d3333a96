"""What a checkpoint store makes of a whole record, over every store there is."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.checkpoint.record import (
    CheckpointRecord,
    FanOutInstanceProgress,
    FanOutProgress,
    InstanceState,
    NodePosition,
)
from orchestrator.checkpoint.row import (
    RunStatus,
)
from orchestrator.errors import (
    RunExists,
)
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import EnclosingInstance, FanOutKey
from orchestrator.report import Position
from tests.contract.checkpoint_case import (
    AWKWARD,
    ENDED,
    FAILURE,
    LONG,
    contribution,
    error_row,
    errors_of,
    fan_out_row,
    fill,
    new_run,
    owned,
    step,
)

RECORD = CheckpointRecord(
    run_id="run-1",
    invocation_id="inv-9",
    correlation_id="c1",
    state={"inner": [1, None, AWKWARD]},
    parent_states=({"x": 2}, {"y": 3}),
    completed_positions=(
        NodePosition(namespace=(), node_name="a", step=0),
        NodePosition(namespace=("sub",), node_name="b", step=1, attempt_index=2),
        NodePosition(namespace=("sub", "subsub"), node_name="c", step=2),
    ),
    last_saved_at=1_790_000_000.25,
    schema_version="v1",
    graph="app:graph",
    fingerprint="f1",
    fan_out_progress=(
        FanOutProgress(
            fan_out_node_name="files",
            namespace=("sub", "subsub"),
            instance_count=4,
            instances=(
                FanOutInstanceProgress(state=InstanceState.COMPLETED, result={"out": 1}),
                FanOutInstanceProgress(
                    state=InstanceState.COMPLETED,
                    result=json.loads(json.dumps(FAILURE.to_json())),
                    result_is_error=True,
                ),
                FanOutInstanceProgress(
                    state=InstanceState.IN_FLIGHT,
                    completed_inner_positions=(
                        NodePosition(namespace=("sub",), node_name="d", step=3, fan_out_index=2),
                    ),
                ),
                FanOutInstanceProgress(),
            ),
        ),
        FanOutProgress(
            fan_out_node_name="pages",
            namespace=("sub",),
            instance_count=2,
            instances=(FanOutInstanceProgress(state=InstanceState.IN_FLIGHT), FanOutInstanceProgress()),
            enclosing_fan_out_lineage=(EnclosingInstance(("sub", "subsub"), "files", 2),),
            visit=1,
        ),
    ),
)


class TestRecordAsAWhole:
    async def test_what_is_seeded_is_loaded_again(self, store):
        await store.seed(RECORD)
        assert await store.load("run-1") == RECORD

    async def test_a_seeded_run_is_nobodys(self, store):
        await store.seed(RECORD)
        run = await store.find("inv-9")
        assert (run.run_id, run.status, run.epoch, run.owner) == ("run-1", RunStatus.SUBMITTED, 0, None)
        ownership = await store.acquire("run-1", "owner-1", invocation_id="inv-10", lease=LONG)
        (first, second) = await store.fan_outs("run-1")
        assert (await store.tally("run-1", first.id)).recorded == 2
        rows = [contribution(index, fan_out=first.key) for index in range(4)]
        assert await store.record(ownership, rows) == 2
        assert second.key.visit == 1

    async def test_a_run_that_is_kept_is_not_seeded_over(self, store):
        made = await store.create(new_run())
        with pytest.raises(RunExists):
            await store.seed(RECORD)
        assert await store.find("run-1") == made
        assert len(await store.steps("run-1")) == 1

    async def test_there_is_no_record_of_an_unknown_run(self, store):
        assert await store.load("nothing") is None

    async def test_a_record_is_composed_of_what_was_written(self, store):
        ownership = await owned(store)
        await store.save_step(ownership, step(1, node="a"))
        await store.open_fan_out(ownership, fan_out_row(FanOutKey((), "before"), 1))
        await store.save_step(ownership, step(2, node="before", folds=(Fold(FanOutKey((), "before").id, 1, "h"),)))
        await store.open_fan_out(ownership, replace(fan_out_row(), position=3))
        await store.record(ownership, [contribution(0), error_row(1)])
        record = await store.load("run-1")
        assert record is not None
        assert record.state == {"x": 2}
        assert [position.node_name for position in record.completed_positions] == ["a", "before"]
        (progress,) = record.fan_out_progress
        assert [instance.state for instance in progress.instances] == ["completed", "in_flight", "not_started"]
        assert progress.instances[0].result == {"out": 0}
        assert abs(record.last_saved_at - datetime.now(UTC).timestamp()) < 60

    async def test_the_record_is_that_of_the_latest_invocation(self, store):
        await owned(store, lease=ENDED)
        await store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG)
        record = await store.load("run-1")
        assert record is not None
        assert (record.run_id, record.invocation_id, record.correlation_id) == ("run-1", "inv-2", "c1")


async def test_how_far_a_failed_instance_came_is_part_of_the_record(store):
    own = await fill(store)
    reached = Position(("files",), "fetch", 0, 2)
    await store.record(own, [error_row(2, positions=(reached,))])
    assert [report.positions for report in await errors_of(store)][-1] == (reached,)
    record = await store.load("run-1")
    (progress,) = record.fan_out_progress
    (position,) = progress.instances[2].completed_inner_positions
    assert (position.namespace, position.node_name, position.attempt_index) == (("files",), "fetch", 2)
    assert (position.fan_out_index, progress.instances[2].state) == (2, InstanceState.IN_FLIGHT)
