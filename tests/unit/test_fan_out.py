"""The pure decisions of a fan-out: plan, window, policy, fan-in."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CheckpointRecordInvalid, ItemRefused, NodeException
from orchestrator.execution.executor import Capacity
from orchestrator.fan_out.fan_in import error_entry, fan_in, fold_of
from orchestrator.fan_out.fold import fold_hash
from orchestrator.fan_out.plan import Plan, check_drift, make_plan
from orchestrator.fan_out.policy import Meaning, meaning
from orchestrator.fan_out.window import window
from orchestrator.graph.node import FanOutNode
from orchestrator.identity import FanOutKey, Slot
from orchestrator.report import Outcome, Report
from tests.unit.graph_of_numbers import Numbers, numbers_graph

KEY = FanOutKey((), "squares")


def node(**options: Any) -> FanOutNode:
    return numbers_graph(**options).fan_out_at(["squares"])


def plan(*numbers: int, offset: int = 0, **options: Any) -> Plan:
    return make_plan(node(**options), Numbers(numbers=list(numbers), offset=offset), KEY)


def report(index: int, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> Report:
    given = {"partial": f'{{"square": {index * index}, "note": "n{index}"}}', **fields}
    if outcome is not Outcome.SUCCEEDED:
        given = {"error": ErrorRecord("bad", "it failed", "ValueError"), **fields}
    return Report(
        slot=Slot(KEY.id, index),
        outcome=outcome,
        token="t",
        delivery=2,
        worker="w",
        invocation_id="i",
        started_at=datetime.now(UTC),
        duration_seconds=0.1,
        **given,
    )


class TestPlan:
    def test_an_instance_gets_its_item_and_all_get_the_inputs(self):
        made = plan(3, 5, offset=7)
        assert [made.item(index) for index in range(made.count)] == ['{"number":3}', '{"number":5}']
        assert made.inputs == '{"offset":7}'

    def test_a_count_gives_each_instance_its_index(self):
        made = plan(items_field=None, count=lambda state: state.bound)
        assert [made.item(index) for index in range(made.count)] == ['{"number":0}', '{"number":1}']

    @pytest.mark.parametrize("count", [-1, 1.5, True, None])
    def test_a_count_that_is_no_number_of_instances_is_refused(self, count):
        with pytest.raises(NodeException, match="return a whole number from 0") as caught:
            plan(items_field=None, count=lambda _state: count)
        assert caught.value.fan_out_category == "fan_out_invalid_count"

    @pytest.mark.parametrize("limit", [0, -3, "many", True])
    def test_a_concurrency_that_lets_nothing_run_is_refused(self, limit):
        with pytest.raises(NodeException, match="concurrency came to") as caught:
            plan(1, concurrency=lambda _state: limit)
        assert caught.value.fan_out_category == "fan_out_invalid_concurrency"

    def test_a_fan_out_has_a_million_instances_at_most(self):
        assert plan(items_field=None, count=lambda _state: 1_000_000).count == 1_000_000
        with pytest.raises(NodeException, match="1000001 instances, the most is 1000000") as caught:
            plan(items_field=None, count=lambda _state: 1_000_001)
        assert caught.value.fan_out_category == "fan_out_invalid_count"

    def test_a_list_of_items_has_a_million_at_most(self):
        state = Numbers().model_copy(update={"numbers": range(1_000_001)})
        with pytest.raises(NodeException, match="1000001 instances"):
            make_plan(node(), state, KEY)

    def test_a_key_has_512_characters_at_most(self):
        assert plan(3, 5, key=lambda number: "k" * 512).count == 2
        with pytest.raises(ItemRefused, match="item 1: its key has 513 characters") as caught:
            plan(3, 5, key=lambda number: "k" * (513 if number == 5 else 1))
        assert caught.value.category == "name_too_long"

    def test_a_tag_has_256_characters_at_most(self):
        tagged = [plan(3, tags={"long": lambda _number, length=length: "v" * length}) for length in (256, 257)]
        assert tagged[0].row(position=1, max_item_bytes=100).item_tags == ({"long": "v" * 256},)
        with pytest.raises(ItemRefused, match="tag 'long' has 257 characters"):
            tagged[1].row(position=1, max_item_bytes=100)

    def test_a_key_is_read_from_the_item_once(self):
        assert plan(3, 5, key=lambda number: f"number-{number}").item_keys == ("number-3", "number-5")

    def test_tags_are_read_from_the_item_and_kept_as_text(self):
        tagged = plan(3, 5, tags={"parity": lambda number: number % 2, "number": lambda number: number})
        row = tagged.row(position=1, max_item_bytes=100)
        assert row.item_tags == ({"parity": "1", "number": "3"}, {"parity": "1", "number": "5"})

    def test_its_row_holds_a_hash_of_every_item(self):
        row = plan(3, 5, 3).row(position=4, max_item_bytes=100)
        first, second, third = (row.item_hashes[at : at + 8] for at in (0, 8, 16))
        assert (row.instance_count, row.position) == (3, 4)
        assert first == third != second

    def test_an_item_over_the_limit_is_refused_before_anything_is_kept(self):
        with pytest.raises(ItemRefused, match=r"item 1: .* pass a reference") as caught:
            plan(3, 10**50).row(position=1, max_item_bytes=20)
        assert (caught.value.category, caught.value.index) == ("item_too_large", 1)

    def test_an_item_that_the_instance_refuses_is_refused_before_anything_is_kept(self):
        made = replace(plan(3), items=["three"])
        with pytest.raises(ItemRefused, match=r"item 0: .*number") as caught:
            made.row(position=1, max_item_bytes=100)
        assert caught.value.category == "state_validation_error"

    def test_another_number_of_items_does_not_go_on_with_the_record(self):
        kept = plan(3, 5).row(position=1, max_item_bytes=100)
        check_drift(plan(4, 6), kept)
        with pytest.raises(CheckpointRecordInvalid, match="entered with 2 items and has 3 now"):
            check_drift(plan(3, 5, 7), kept)


class TestWindow:
    @pytest.mark.parametrize(
        ("concurrency", "slots", "expected"),
        [(10, 2, 10), (10, 0, 10), (None, 2, 64), (None, 100, 200), (500, 100, 200), ("auto", 4, 8), ("auto", 0, 1)],
    )
    def test_it_keeps_workers_busy_and_the_bound(self, concurrency, slots, expected):
        assert window(concurrency, Capacity(slots, slots)) == expected


class TestPolicy:
    @pytest.mark.parametrize(
        ("policy", "outcome", "invocation", "expected"),
        [
            ("fail_fast", Outcome.SUCCEEDED, "i", Meaning.CONTRIBUTION),
            ("fail_fast", Outcome.SUCCEEDED, "later", Meaning.CONTRIBUTION),
            ("fail_fast", Outcome.FAILED, "i", Meaning.ERROR_ROW),
            ("fail_fast", Outcome.FAILED, "later", Meaning.LEFTOVER),
            ("fail_fast", Outcome.LOST, "i", Meaning.ERROR_ROW),
            ("collect", Outcome.FAILED, "i", Meaning.CONTRIBUTION),
            ("collect", Outcome.FAILED, "later", Meaning.CONTRIBUTION),
            ("collect", Outcome.LOST, "i", Meaning.CONTRIBUTION),
            ("collect", Outcome.CANCELLED, "i", Meaning.ERROR_ROW),
            ("collect", Outcome.CANCELLED, "later", Meaning.LEFTOVER),
        ],
    )
    def test_a_report_means(self, policy, outcome, invocation, expected):
        chosen = node(error_policy=policy, errors_field="errors")
        assert meaning(chosen, report(0, outcome), invocation) is expected


class TestFanIn:
    def test_every_target_gets_its_values_in_index_order_in_one_merge(self):
        assert fan_in(node(), [report(0), report(1), report(2)]) == {
            "squares": [0, 1, 4],
            "notes": ["n0", "n1", "n2"],
            "count": 3,
        }

    def test_a_failed_instance_has_no_place_in_the_lists_and_one_among_the_errors(self):
        update = fan_in(node(error_policy="collect", errors_field="errors"), [report(0), report(1, Outcome.FAILED)])
        assert update["squares"] == [0]
        assert update["count"] == 2
        assert update["errors"] == [error_entry(report(1, Outcome.FAILED))]

    def test_a_field_that_a_degraded_instance_left_out_is_an_empty_place(self):
        update = fan_in(node(), [report(0), report(1, partial='{"note": "degraded"}')])
        assert update["squares"] == [0, None]
        assert update["notes"] == ["n0", "degraded"]

    def test_an_error_entry_is_text_throughout(self):
        entry = error_entry(report(3, Outcome.FAILED, attempts=2))
        assert entry == {
            "fan_out_index": "3",
            "category": "bad",
            "message": "it failed",
            "type": "ValueError",
            "traceback": "",
            "attempt": "1",
            "delivery": "2",
            "worker": "w",
        }

    def test_an_error_without_a_category_goes_by_node_exception(self):
        bare = report(0, Outcome.FAILED, error=ErrorRecord(None, "oops", "ValueError"))
        assert error_entry(bare)["category"] == "node_exception"

    def test_the_fold_tells_values_places_and_numbers_apart(self):
        folds = [
            fold_of(KEY.id, reports)
            for reports in (
                [report(0), report(1)],
                [report(0)],
                [report(0), report(1, partial='{"square": 9}')],
                [report(0), report(2, partial=report(1).partial)],
                [report(0), report(1, Outcome.FAILED)],
            )
        ]
        assert len({fold.hash for fold in folds}) == 5
        assert folds[0].count == 2
        assert folds[0].hash == fold_hash([(0, report(0).hash), (1, report(1).hash)])

    def test_the_fold_does_not_depend_on_who_ran_it_or_when(self):
        again = replace(report(1), worker="another", delivery=9, token="u", duration_seconds=7.0)
        assert fold_of(KEY.id, [report(1)]) == fold_of(KEY.id, [again])
