"""What spans tell of branches, and of the metadata that holds where they begin."""

import asyncio
from typing import Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from rollforward import (
    END,
    BranchSpec,
    CompiledGraph,
    GraphBuilder,
    NodeException,
    ParallelBranchesBranchFailed,
    State,
    set_invocation_metadata,
)
from tests.unit.tracing import CALL, Traced, call_model, ours, status


class Pair(State):
    left: str = ""
    right: str = ""
    texts: list[str] = ["a"]


async def call(_state: Pair) -> dict[str, Any]:
    call_model()
    return {}


async def rest(_state: Pair) -> dict[str, Any]:
    await asyncio.sleep(0.01)
    call_model()
    return {}


async def fail(_state: Pair) -> dict[str, Any]:
    raise ValueError("no")


async def wait_long(_state: Pair) -> dict[str, Any]:
    await asyncio.sleep(30)
    return {}


def one(name: str, function: Any) -> CompiledGraph[Pair]:
    return GraphBuilder(Pair).add_node(name, function).set_entry(name).add_edge(name, END).compile()


def both(**branches: BranchSpec) -> CompiledGraph[Pair]:
    return (
        GraphBuilder(Pair)
        .add_parallel_branches_node("both", branches=branches)
        .set_entry("both")
        .add_edge("both", END)
        .compile()
    )


async def test_branches_are_told_in_the_order_of_their_declaration_each_with_its_own_end() -> None:
    traced = Traced()
    graph = both(slow=BranchSpec(subgraph=one("ask", rest)), quick=BranchSpec(subgraph=one("ask", call)))
    await graph.invoke(observers=[traced.observer])
    assert [span.name for span in traced.spans if span.name in ("slow", "quick", "both")] == ["slow", "quick", "both"]
    ends = {span.name: span.end_time or 0 for span in traced.spans}
    assert ends["quick"] < ends["slow"] <= ends["both"]
    assert traced.observer.open_invocations == ()


async def test_a_call_in_a_branch_says_which_one() -> None:
    traced = Traced()
    await both(left=BranchSpec(subgraph=one("ask", call)), right=BranchSpec(call=call)).invoke(
        observers=[traced.observer]
    )
    assert {ours(span)["node_branch_name"] for span in traced.named(CALL)} == {"left", "right"}


async def test_a_failed_branch_fails_the_node_with_a_failed_step_and_stops_the_others() -> None:
    traced = Traced()
    graph = both(
        inner=BranchSpec(subgraph=both(worse=BranchSpec(call=fail))),
        waiting=BranchSpec(subgraph=one("wait", wait_long)),
    )
    with pytest.raises(ParallelBranchesBranchFailed):
        await graph.invoke(observers=[traced.observer])
    said = {span.name: status(span) for span in traced.spans if span.name not in ("both", "wait")}
    assert said.pop("rollforward.invocation")[0] == "ERROR"
    assert said == {
        "inner": ("ERROR", "node_exception"),
        "worse": ("ERROR", "node_exception"),
        "waiting": ("ERROR", "cancelled"),
    }
    assert {status(span) for span in traced.named("both")} == {("ERROR", "node_exception")}


async def test_what_holds_is_on_every_span_also_of_a_resumed_invocation() -> None:
    traced, store, outcomes = Traced(), MemoryStore(), iter([ValueError("once"), None])

    async def ask(_state: Pair) -> dict[str, Any]:
        call_model()
        set_invocation_metadata(step_of_mine=1)
        if error := next(outcomes):
            raise error
        return {}

    graph = one("ask", ask)
    with pytest.raises(NodeException):
        await graph.invoke(metadata={"tenant": "t"}, invocation_id="r", checkpointer=store, observers=[traced.observer])
    await graph.invoke(resume_invocation="r", checkpointer=store, observers=[traced.observer])
    assert len(traced.named("rollforward.invocation")) == 2
    assert {ours(span)["user_tenant"] for span in traced.spans} == {"t"}
    assert {ours(span)["user_step_of_mine"] for span in traced.named("rollforward.invocation")} == {1}
    assert all("user_step_of_mine" not in ours(span) for span in traced.named(CALL))
