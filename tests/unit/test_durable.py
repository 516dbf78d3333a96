"""A durable node inside an instance is not run again by a later delivery, wherever the one before it ended."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.context import Cancellation
from orchestrator.fan_out.entry import NodeCompleted, read_entries
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.run import run_instance
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Held
from orchestrator.report import Outcome, Report
from rollforward import END, BranchSpec, CompiledGraph, GraphBuilder, NodeException, State, append
from tests.unit.one_delivery import delivery


class Inner(State):
    number: int = 0
    log: Annotated[list[str], append] = []


class Item(State):
    number: int = 0
    turns: int = 0
    pages: list[int] = [1, 2]
    log: Annotated[list[str], append] = []
    logs: Annotated[list[list[str]], append] = []


class Whole(State):
    numbers: list[int] = [7]
    logs: Annotated[list[list[str]], append] = []


@dataclass
class Calls:
    """Fails at one call of a node, the first time it is made."""

    fails_at: int | None = None
    count: int = 0
    ran: Counter[str] = field(default_factory=Counter)

    def node(self, name: str, *, counts_turns: bool = False) -> Any:
        async def call(state: Any) -> dict[str, Any]:
            self.count += 1
            if self.count == self.fails_at:
                raise ValueError(f"call {self.fails_at} fails")
            turn = f"{name}{state.turns}" if counts_turns else name
            self.ran[turn] += 1
            return {"log": [turn], **({"turns": state.turns + 1} if counts_turns else {})}

        return call

    def inner(self, *names: str) -> CompiledGraph[Inner]:
        """A graph of these nodes in a row; those in capitals are durable."""
        builder: GraphBuilder[Inner] = GraphBuilder(Inner)
        for name in names:
            builder.add_node(name, self.node(name), durable=name.isupper())
        for name, following in pairwise(names):
            builder.add_edge(name, following)
        return builder.add_edge(names[-1], END).set_entry(names[0]).compile()

    def item(self) -> CompiledGraph[Item]:
        outputs = {"log": "log"}
        branches = {
            name: BranchSpec(subgraph=self.inner(*nodes), outputs=outputs)
            for name, nodes in {"left": ("L", "m"), "right": ("R", "s")}.items()
        }
        return (
            GraphBuilder(Item)
            .add_node("X", self.node("X", counts_turns=True), durable=True)
            .add_conditional_edge("X", lambda state: "X" if state.turns < 3 else "sub")
            .add_subgraph_node("sub", self.inner("o", "P", "q"), outputs=outputs)
            .add_edge("sub", "pages")
            .add_fan_out_node(
                "pages",
                subgraph=self.inner("f", "G", "h"),
                items_field="pages",
                item_field="number",
                collect_field="log",
                target_field="logs",
                concurrency=1,
            )
            .add_edge("pages", "y")
            .add_node("y", self.node("y"))
            .add_edge("y", "both")
            .add_parallel_branches_node("both", branches=branches)
            .add_edge("both", "Z")
            .add_node("Z", self.node("Z"), durable=True)
            .add_edge("Z", "end")
            .add_node("end", self.node("end"))
            .add_edge("end", END)
            .set_entry("X")
            .compile()
        )

    def whole(self, **how: Any) -> CompiledGraph[Whole]:
        return (
            GraphBuilder(Whole)
            .add_fan_out_node(
                "wide",
                subgraph=self.item(),
                items_field="numbers",
                item_field="number",
                collect_field="log",
                target_field="logs",
                **how,
            )
            .set_entry("wide")
            .add_edge("wide", END)
            .compile("durable")
        )


async def deliver(graph: CompiledGraph[Any], kept: list[bytes]) -> Report:
    """One delivery of the only instance, which keeps in `kept` what it has got so far."""

    def keep(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
        kept.extend(entries)
        return True

    runtime = Runtime(worker="w", find=lambda _name, _fingerprint: graph, keep=in_ledger(keep))
    handed = delivery(graph, "wide", {"number": 7}, progress=kept)
    return await run_instance(*handed, runtime, Cancellation())


def log_of(report: Report) -> list[str]:
    found: list[str] = json.loads(report.partial or "{}")["log"]
    return found


LOG = ["X0", "X1", "X2", "o", "P", "q", "y", "L", "m", "R", "s", "Z", "end"]


@pytest.mark.parametrize("fails_at", range(1, 21))
async def test_wherever_a_delivery_ends_the_next_goes_on_after_the_last_durable_node(fails_at: int):
    calls, kept = Calls(fails_at), list[bytes]()
    graph = calls.whole()
    first = await deliver(graph, kept)
    if first.outcome is Outcome.SUCCEEDED:
        assert fails_at > 19
        return
    second = await deliver(graph, kept)
    assert sorted(log_of(second)) == sorted(LOG)
    repeated = {name for name, count in calls.ran.items() if count > 1}
    # Those of the two pages are told apart by nothing but their number.
    assert not {name for name in repeated - {"f", "G", "h"} if name[0].isupper()}
    assert (calls.ran["G"], calls.ran["h"]) == (2, 2)


@pytest.mark.parametrize("fails_at", [2, 5, 8, 11, 13, 16, 18])
async def test_a_third_delivery_goes_on_after_the_last_durable_node_of_both_before(fails_at: int):
    calls, kept = Calls(fails_at), list[bytes]()
    graph = calls.whole()
    await deliver(graph, kept)
    calls.fails_at = calls.count + 2
    await deliver(graph, kept)
    third = await deliver(graph, kept)
    assert sorted(log_of(third)) == sorted(LOG)
    assert not [name for name, count in calls.ran.items() if count > 1 and name[0].isupper() and name != "G"]


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
@pytest.mark.parametrize("fails_at", [3, 6, 9, 10, 12, 15, 18])
async def test_a_resumed_run_goes_on_after_the_last_durable_node(run_on: str, fails_at: int):
    calls, store = Calls(fails_at), MemoryStore()
    graph = calls.whole(run_on=run_on)
    with pytest.raises(NodeException):
        await graph.invoke(Whole(), checkpointer=store, invocation_id="r")
    after = await graph.invoke(resume_invocation="r", checkpointer=store)
    assert sorted(after.logs[0]) == sorted(LOG)
    assert not [name for name, count in calls.ran.items() if count > 1 and name[0].isupper() and name != "G"]
    assert calls.ran["G"] == 2


async def test_a_retry_of_the_whole_instance_begins_at_its_entry():
    calls = Calls(4)

    async def again(state: Any, call: Any) -> Any:
        try:
            return await call(state)
        except Exception:  # noqa: BLE001 - whatever it was, once more
            return await call(state)

    after = await calls.whole(instance_middleware=[again]).invoke(Whole())
    assert sorted(after.logs[0]) == sorted(LOG)
    assert calls.ran["X0"] == 2


class Turns(State):
    number: int = 0
    turns: int = 0
    pages: list[int] = [1, 2]
    log: Annotated[list[str], append] = []
    logs: Annotated[list[list[str]], append] = []


def turning(graph: GraphBuilder[Turns], calls: Calls, *, last: str, durable: bool) -> CompiledGraph[Turns]:
    """Its last node is run three times, with all that is before it."""
    return (
        graph.add_node(last, calls.node(last, counts_turns=True), durable=durable)
        .add_conditional_edge(last, lambda state: "first" if state.turns < 3 else END)
        .set_entry("first")
        .compile()
    )


def around(item: CompiledGraph[Any]) -> CompiledGraph[Whole]:
    return (
        GraphBuilder(Whole)
        .add_fan_out_node(
            "wide",
            subgraph=item,
            items_field="numbers",
            item_field="number",
            collect_field="log",
            target_field="logs",
        )
        .set_entry("wide")
        .add_edge("wide", END)
        .compile("around")
    )


async def delivered_twice(item: CompiledGraph[Turns]) -> Report:
    graph, kept = around(item), list[bytes]()
    assert (await deliver(graph, kept)).outcome is Outcome.FAILED
    return await deliver(graph, kept)


@pytest.mark.parametrize("fails_at", range(2, 10))
async def test_a_nested_fan_out_of_a_later_turn_is_not_taken_for_that_of_an_earlier_one(fails_at: int):
    calls = Calls(fails_at)
    fan_out: Any = {"items_field": "pages", "item_field": "number", "collect_field": "log", "target_field": "logs"}
    builder = GraphBuilder(Turns).add_fan_out_node("first", subgraph=calls.inner("f"), concurrency=1, **fan_out)
    report = await delivered_twice(turning(builder.add_edge("first", "T"), calls, last="T", durable=True))
    assert log_of(report) == ["T0", "T1", "T2"]
    assert calls.ran == {"f": 6, "T0": 1, "T1": 1, "T2": 1}


@pytest.mark.parametrize("fails_at", range(2, 10))
async def test_where_a_graph_was_in_an_earlier_turn_is_forgotten_in_the_next(fails_at: int):
    calls = Calls(fails_at)
    outputs = {"log": "log"}
    deep = (
        GraphBuilder(Inner)
        .add_subgraph_node("deep", calls.inner("D"), outputs=outputs)
        .add_edge("deep", "after")
        .add_node("after", calls.node("after"))
        .add_edge("after", END)
        .set_entry("deep")
        .compile()
    )
    builder = GraphBuilder(Turns).add_subgraph_node("first", deep, outputs=outputs)
    report = await delivered_twice(turning(builder.add_edge("first", "t"), calls, last="t", durable=False))
    assert log_of(report) == ["D", "after", "t0", "D", "after", "t1", "D", "after", "t2"]
    assert calls.ran["D"] == 3


async def test_only_the_durable_node_and_where_the_graphs_around_it_are_is_kept():
    calls, kept = Calls(), list[bytes]()
    branches = {
        name: BranchSpec(subgraph=calls.inner(*nodes), outputs={"log": "log"})
        for name, nodes in {"left": ("m", "n"), "right": ("p", "q", "r", "R")}.items()
    }
    item = (
        GraphBuilder(Item)
        .add_node("before", calls.node("before"))
        .add_edge("before", "both")
        .add_parallel_branches_node("both", branches=branches)
        .add_edge("both", END)
        .set_entry("before")
        .compile()
    )
    await deliver(around(item), kept)
    steps = [one.step for one in read_entries(kept) if isinstance(one, NodeCompleted)]
    assert calls.ran["n"] == 1
    assert [(step.namespace, step.node) for step in steps] == [(("wide",), "before"), (("wide", "both", "right"), "R")]


async def test_a_fan_out_in_a_branch_is_entered_again_where_it_is_not_over_though_another_branch_has_come_further():
    """It finds what it has got, since its entry is the same one."""
    calls, kept = Calls(fails_at=3), list[bytes]()
    pages = (
        GraphBuilder(Item)
        .add_fan_out_node(
            "pages",
            subgraph=calls.inner("f"),
            items_field="pages",
            item_field="number",
            collect_field="log",
            target_field="logs",
            concurrency=1,
        )
        .add_edge("pages", END)
        .set_entry("pages")
        .compile()
    )
    branches = {
        "left": BranchSpec(subgraph=pages, outputs={"log": "log"}),
        "right": BranchSpec(subgraph=calls.inner("R"), outputs={"log": "log"}),
    }
    item = (
        GraphBuilder(Item)
        .add_parallel_branches_node("both", branches=branches)
        .add_edge("both", END)
        .set_entry("both")
        .compile()
    )
    assert (await deliver(around(item), kept)).outcome is Outcome.FAILED
    assert calls.ran == {"f": 1, "R": 1}
    assert (await deliver(around(item), kept)).outcome is Outcome.SUCCEEDED
    assert calls.ran == {"f": 2, "R": 1}
