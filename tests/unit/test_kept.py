"""What an instance got so far is found again by its next delivery."""

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest

from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.context import Cancellation
from orchestrator.errors import LedgerUnavailable
from orchestrator.fan_out.entry import (
    EventsTold,
    NestedOpened,
    NestedReported,
    NodeCompleted,
    first_state_hash,
    read_entries,
    write_entry,
)
from orchestrator.identity import FanOutKey, Slot
from orchestrator.instance import kept as kept_module
from orchestrator.instance.kept import Kept, in_ledger
from orchestrator.instance.run import run_instance
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Claimed, Held
from orchestrator.report import Outcome, Report
from rollforward import END, GraphBuilder, State, append, current_fan_out_index
from tests.unit.one_delivery import delivery

KEY = FanOutKey((), "outer")


class One(State):
    item: int = 0
    out: int = 0


class Middle(State):
    items: list[int] = []
    results: Annotated[list[int], append] = []
    errors: list[dict[str, str]] = []


class Top(State):
    items: list[list[int]] = []
    results: Annotated[list[list[int]], append] = []


@dataclass
class Deliveries:
    """One outer instance, delivered again and again; `broken` items fail."""

    instance_middleware: tuple[Any, ...] = ()
    policy: Literal["fail_fast", "collect"] = "fail_fast"
    broken: set[int] = field(default_factory=set)
    ran: list[int] = field(default_factory=list)
    calls: list[Sequence[bytes]] = field(default_factory=list)
    away: int = 0
    is_stale: bool = False

    def keep(self, _run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("gone")
        if self.is_stale:
            return False
        self.calls.append(list(entries))
        return True

    async def double(self, state: One) -> dict[str, Any]:
        self.ran.append(state.item)
        assert current_fan_out_index() is not None
        if state.item in self.broken:
            raise ValueError("broken")
        return {"out": state.item * 2}

    async def deliver(self, items: list[int]) -> Report:
        graph, progress = self._graph(), [one for call in self.calls for one in call]
        runtime = Runtime(worker="w", find=lambda _name, _fingerprint: graph, keep=in_ledger(self.keep))
        self.ran.clear()
        return await run_instance(
            *delivery(graph, "outer", {"items": items}, progress=progress), runtime, Cancellation()
        )

    def _graph(self) -> Any:
        leaf = GraphBuilder(One).add_node("leaf", self.double).set_entry("leaf").add_edge("leaf", END).compile()
        fields: Any = {"items_field": "items", "target_field": "results"}
        errors: Any = {"errors_field": "errors"} if self.policy == "collect" else {}
        middle = (
            GraphBuilder(Middle)
            .add_fan_out_node(
                "inner",
                subgraph=leaf,
                item_field="item",
                collect_field="out",
                concurrency=1,
                error_policy=self.policy,
                **fields,
                **errors,
            )
            .set_entry("inner")
            .add_edge("inner", END)
            .compile()
        )
        return (
            GraphBuilder(Top)
            .add_fan_out_node(
                "outer",
                subgraph=middle,
                item_field="items",
                collect_field="results",
                instance_middleware=self.instance_middleware,
                **fields,
            )
            .set_entry("outer")
            .add_edge("outer", END)
            .compile("kept")
        )


def work_with(progress: Sequence[bytes]) -> Claimed:
    return Claimed(
        run_id="r", slot=Slot("f", 0), token="t", delivery=2, briefing_hash="", item=b"{}", progress=tuple(progress)
    )


def a_report() -> Report:
    return Report(
        slot=Slot(KEY.id, 0),
        outcome=Outcome.SUCCEEDED,
        token="t",
        delivery=1,
        worker="w",
        invocation_id="i",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_seconds=0.5,
        partial='{"out":2}',
    )


def results(report: Report) -> list[Any]:
    found: list[Any] = json.loads(report.partial or "{}")["results"]
    return found


async def test_only_the_missing_nested_instances_run_in_the_next_delivery():
    deliveries = Deliveries(broken={5})
    first = await deliveries.deliver([1, 2, 3, 4, 5])
    assert (first.outcome, deliveries.ran) == (Outcome.FAILED, [1, 2, 3, 4, 5])
    deliveries.broken.clear()
    second = await deliveries.deliver([1, 2, 3, 4, 5])
    assert deliveries.ran == [5]
    assert results(second) == [2, 4, 6, 8, 10]


async def test_a_nested_instance_that_begins_with_another_item_runs_again():
    deliveries = Deliveries()
    await deliveries.deliver([1, 2, 3])
    report = await deliveries.deliver([1, 7, 3])
    assert (deliveries.ran, results(report)) == ([7], [2, 14, 6])


async def test_what_was_taken_over_and_what_came_to_it_is_found_by_the_delivery_after_that():
    deliveries = Deliveries(broken={3})
    await deliveries.deliver([1, 2, 3])
    deliveries.broken = {9}
    await deliveries.deliver([1, 2, 8, 9])
    assert deliveries.ran == [8, 9]
    deliveries.broken.clear()
    report = await deliveries.deliver([1, 2, 8, 9])
    assert (deliveries.ran, results(report)) == ([9], [2, 4, 16, 18])


async def test_what_was_done_with_the_same_items_is_taken_over_from_every_entry_before():
    deliveries = Deliveries()
    await deliveries.deliver([1, 2, 3])
    await deliveries.deliver([8, 9])
    report = await deliveries.deliver([8, 2, 5])
    assert (deliveries.ran, results(report)) == ([5], [16, 4, 10])


async def test_a_collected_error_is_a_contribution_and_does_not_run_again():
    deliveries = Deliveries(policy="collect", broken={2})
    await deliveries.deliver([1, 2, 3])
    report = await deliveries.deliver([1, 2, 3])
    assert (deliveries.ran, results(report)) == ([], [2, 6])


async def test_what_is_added_during_a_call_goes_with_the_next():
    deliveries = Deliveries()
    await deliveries.deliver(list(range(500)))
    assert sum(len(call) for call in deliveries.calls) == 501
    assert len(deliveries.calls) < 500


async def test_what_a_ledger_that_is_away_did_not_take_is_kept_before_the_report():
    deliveries = Deliveries(away=2)
    assert results(await deliveries.deliver([1, 2])) == [2, 4]
    await deliveries.deliver([1, 2])
    assert deliveries.ran == []


async def test_under_a_stale_token_nothing_more_is_sent():
    deliveries = Deliveries(is_stale=True)
    assert results(await deliveries.deliver([1, 2, 3])) == [2, 4, 6]
    assert deliveries.calls == []


async def test_after_a_stale_token_the_ledger_is_not_asked_again():
    calls: list[int] = []

    def refuse(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        calls.append(len(entries))
        return False

    kept = Kept(work_with([]), in_ledger(refuse))
    for _ in range(3):
        kept.add(a_report(), None)
        await kept.end()
    assert calls == [1]


async def test_a_completed_node_is_kept_before_anything_comes_after_it():
    asked, answered = threading.Event(), threading.Event()

    def keep(_run_id: str, _held: Held, _entries: Sequence[bytes]) -> bool:
        asked.set()
        return answered.wait(10)

    kept = Kept(work_with([]), in_ledger(keep))
    completing = asyncio.create_task(kept.complete([Step(position=0, namespace=("outer",), node="n", state="{}")]))
    await asyncio.to_thread(asked.wait, 10)
    done, _ = await asyncio.wait([completing], timeout=0.2)
    assert not done
    answered.set()
    await asyncio.wait_for(completing, 10)


async def test_what_happens_is_told_again_and_again_while_the_instance_runs(monkeypatch):
    monkeypatch.setattr(kept_module, "TOLD_EVERY_SECONDS", 0.01)
    happened = [("one",), (), ("two",), (), ("three",), ()]
    told, third = list[EventsTold](), asyncio.Event()
    loop = asyncio.get_running_loop()

    def keep(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        told.extend(one for one in read_entries(entries) if isinstance(one, EventsTold))
        if len(told) == 3:
            loop.call_soon_threadsafe(third.set)
        return True

    kept = Kept(work_with([]), in_ledger(keep), invocation_id="i", events=lambda: happened.pop(0) if happened else ())
    kept.begin()
    await asyncio.wait_for(third.wait(), 10)
    await kept.end()
    assert told == [EventsTold("i", 2, (event,)) for event in ("one", "two", "three")]


async def test_where_the_token_is_stale_nothing_is_told_any_more_and_the_instance_ends_as_it_ends(monkeypatch):
    monkeypatch.setattr(kept_module, "TOLD_EVERY_SECONDS", 0.01)
    loop, asked, has_ticked_since = asyncio.get_running_loop(), list[int](), asyncio.Event()

    def keep(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        asked.append(len(entries))
        loop.call_soon_threadsafe(loop.call_later, 0.05, has_ticked_since.set)
        return False

    kept = Kept(work_with([]), in_ledger(keep), events=lambda: ("one",))
    kept.begin()
    await asyncio.wait_for(has_ticked_since.wait(), 10)
    await kept.end()
    assert asked == [1]


async def test_an_instance_of_a_fan_out_with_other_inputs_runs_again():
    row = FanOutRow(key=KEY, instance_count=1, item_hashes=first_state_hash(b"{}", '{"by":2}'))
    entered = replace(row, item_hashes=first_state_hash(b"{}", '{"by":3}'))
    kept = Kept(work_with([write_entry(NestedOpened(row)), write_entry(NestedReported(a_report()))]), None)
    assert kept.enter(entered) == (replace(KEY, visit=1), {})


async def test_an_entry_that_this_delivery_has_made_already_is_another_one():
    row = FanOutRow(key=KEY, instance_count=1, item_hashes=first_state_hash(b"{}", "{}"))
    kept = Kept(work_with([write_entry(NestedOpened(row)), write_entry(NestedReported(a_report()))]), None)
    assert kept.enter(row) == (KEY, {0: a_report()})
    assert kept.enter(row) == (replace(KEY, visit=1), {})


@pytest.mark.parametrize(
    ("fan_out", "completed", "is_over"),
    [
        (("outer",), ("outer",), True),
        (("outer",), ("outer", "sub"), True),
        (("outer", "sub"), ("outer",), True),
        (("outer", "both", "left"), ("outer", "both", "right"), False),
        (("outer", "both", "left"), ("outer", "both", "right", "sub"), False),
        (("outer", "both", "left", "sub"), ("outer", "both", "right"), False),
    ],
)
async def test_a_fan_out_is_over_once_its_graph_or_one_around_or_inside_it_has_come_further(
    fan_out: tuple[str, ...], completed: tuple[str, ...], is_over: bool
):
    lineage = KEY.enclosing(0)
    key = FanOutKey(fan_out, "pages", lineage)
    opened = NestedOpened(FanOutRow(key=key, instance_count=0, item_hashes=b""))
    step = NodeCompleted(Step(position=0, namespace=completed, node="n", state="{}", lineage=lineage))
    kept = Kept(work_with([write_entry(opened), write_entry(step), write_entry(step), write_entry(opened)]), None)
    assert kept.reached(lineage).entered == ({key: 1} if is_over else {})


async def test_what_another_version_kept_is_left_alone():
    deliveries = Deliveries(calls=[[b'{"kind": "later"}', b"no json", b'{"kind": "nested_reported"}', b"[]"]])
    assert results(await deliveries.deliver([1])) == [2]


async def test_another_attempt_of_the_outer_instance_in_one_delivery_is_new_work():
    attempts: list[int] = []

    async def twice(state: Any, call: Any) -> Any:
        attempts.append(1)
        await call(state)
        return await call(state)

    deliveries = Deliveries(instance_middleware=(twice,))
    await deliveries.deliver([1, 2])
    assert deliveries.ran == [1, 2, 1, 2]
    await deliveries.deliver([1, 2])
    assert deliveries.ran == []


async def test_two_levels_down_what_was_done_is_found_by_its_own_lineage():
    ran: list[int] = []
    kept: list[bytes] = []
    is_broken = True

    async def leaf(state: One) -> dict[str, Any]:
        ran.append(state.item)
        if is_broken and state.item == 4:
            raise ValueError("broken")
        return {"out": state.item * 2}

    class Nest(State):
        items: list[list[int]] = []
        results: Annotated[list[list[int]], append] = []

    class Whole(State):
        items: list[list[list[int]]] = []
        results: Annotated[list[list[list[int]]], append] = []

    fields: Any = {"items_field": "items", "target_field": "results", "concurrency": 1}

    def wrap(state: Any, subgraph: Any, item: str, collect: str) -> Any:
        name = "outer" if state is Whole else "inner"
        builder = GraphBuilder(state).add_fan_out_node(
            name, subgraph=subgraph, item_field=item, collect_field=collect, **fields
        )
        return builder.set_entry(name).add_edge(name, END).compile("whole" if state is Whole else None)

    one = GraphBuilder(One).add_node("leaf", leaf).set_entry("leaf").add_edge("leaf", END).compile()
    graph = wrap(Whole, wrap(Nest, wrap(Middle, one, "item", "out"), "items", "results"), "items", "results")

    def keep(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        kept.extend(entries)
        return True

    runtime = Runtime(worker="w", find=lambda _name, _fingerprint: graph, keep=in_ledger(keep))
    first = await run_instance(
        *delivery(graph, "outer", {"items": [[1, 2], [3, 4]]}, progress=kept), runtime, Cancellation()
    )
    assert first.outcome is Outcome.FAILED
    ran.clear()
    is_broken = False
    second = await run_instance(
        *delivery(graph, "outer", {"items": [[1, 2], [3, 4]]}, progress=kept), runtime, Cancellation()
    )
    assert results(second) == [[2, 4], [6, 8]]
    assert ran == [4]


async def test_events_that_cannot_be_told_keep_nothing_from_being_kept(caplog: pytest.LogCaptureFixture):
    kept: list[bytes] = []

    def keep(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        kept.extend(entries)
        return True

    def fail() -> tuple[str, ...]:
        raise RuntimeError("a bug")

    told = Kept(work_with([]), in_ledger(keep), events=fail)
    await told.complete([Step(position=0, namespace=("outer",), node="n", state="{}")])
    await told.end()
    assert [type(one) for one in read_entries(kept)] == [NodeCompleted]
    assert "events not told" in caplog.messages
