"""What nodes wrote holds again where a run, a branch or an instance goes on after it."""

from typing import Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.report import Outcome
from rollforward import (
    END,
    BranchSpec,
    CompiledGraph,
    GraphBuilder,
    NodeException,
    ParallelBranchesBranchFailed,
    State,
    get_invocation_metadata,
    set_invocation_metadata,
)
from tests.unit.span_tree import SpanTree
from tests.unit.test_durable import deliver


class Read(State):
    number: int = 0
    numbers: list[int] = [7]
    read: dict[str, Any] = {}
    reads: list[dict[str, Any]] = []


def writes(**entries: Any) -> Any:
    async def write(_state: Read) -> dict[str, Any]:
        set_invocation_metadata(**entries)
        return {}

    return write


def fails_once() -> Any:
    """Fail, and the next time read."""
    outcomes = iter([ValueError("once"), None])

    async def read(_state: Read) -> dict[str, Any]:
        if error := next(outcomes):
            raise error
        return {"read": dict(get_invocation_metadata())}

    return read


def in_a_row(*functions: Any, durable: bool = False) -> CompiledGraph[Read]:
    builder = GraphBuilder(Read).set_entry("n0")
    for number, function in enumerate(functions):
        builder.add_node(f"n{number}", function, durable=durable and number == 0)
        builder.add_edge(f"n{number}", END if number + 1 == len(functions) else f"n{number + 1}")
    return builder.compile()


async def resumed(
    graph: CompiledGraph[Read], failure: type[Exception] = NodeException, observers: tuple[Any, ...] = ()
) -> Read:
    store = MemoryStore()
    with pytest.raises(failure):
        await graph.invoke(metadata={"tenant": "t"}, invocation_id="r", checkpointer=store)
    return await graph.invoke(resume_invocation="r", checkpointer=store, observers=observers)


async def test_a_resumed_run_goes_on_with_what_its_nodes_wrote() -> None:
    tree = SpanTree()
    end = await resumed(in_a_row(writes(a=1, tenant="u"), writes(b=2), fails_once()), observers=(tree,))
    assert end.read == {"tenant": "u", "a": 1, "b": 2}
    assert tree.user_facts("a") == {"invocation": [1], "n2": [1]}


async def test_a_resumed_subgraph_goes_on_with_what_its_nodes_and_those_before_it_wrote() -> None:
    inner = in_a_row(writes(b=2), fails_once())
    graph = (
        GraphBuilder(Read)
        .add_node("before", writes(a=1))
        .add_subgraph_node("inside", inner, outputs={"read": "read"})
        .set_entry("before")
        .add_edge("before", "inside")
        .add_edge("inside", END)
        .compile()
    )
    assert (await resumed(graph)).read == {"tenant": "t", "a": 1, "b": 2}


async def test_a_resumed_branch_goes_on_with_what_it_wrote_and_nothing_of_it_holds_after_it() -> None:
    after: list[dict[str, Any]] = []

    async def look(_state: Read) -> dict[str, Any]:
        after.append(dict(get_invocation_metadata()))
        return {}

    branch = BranchSpec(subgraph=in_a_row(writes(b=2), fails_once()), outputs={"read": "read"})
    graph = (
        GraphBuilder(Read)
        .add_parallel_branches_node("both", branches={"one": branch})
        .add_node("look", look)
        .set_entry("both")
        .add_edge("both", "look")
        .add_edge("look", END)
        .compile()
    )
    assert (await resumed(graph, ParallelBranchesBranchFailed)).read == {"tenant": "t", "b": 2}
    assert after == [{"tenant": "t"}]


async def test_an_instance_goes_on_after_its_durable_node_with_what_that_wrote() -> None:
    instance = in_a_row(writes(mine=True), fails_once(), durable=True)
    graph = (
        GraphBuilder(Read)
        .add_fan_out_node(
            "wide",
            subgraph=instance,
            items_field="numbers",
            item_field="number",
            collect_field="read",
            target_field="reads",
        )
        .set_entry("wide")
        .add_edge("wide", END)
        .compile()
    )
    kept: list[bytes] = []
    assert (await deliver(graph, kept)).outcome is Outcome.FAILED
    second = await deliver(graph, kept)
    assert second.partial == '{"read":{"mine":true}}'
    assert second.metadata == {"mine": True}


async def test_what_nobody_wrote_is_not_kept() -> None:
    store = MemoryStore()
    await in_a_row(writes(), fails_nothing).invoke(metadata={"tenant": "t"}, invocation_id="r", checkpointer=store)
    assert [step.metadata for step in await store.steps("r")] == [{}, {}, {}]


async def fails_nothing(_state: Read) -> dict[str, Any]:
    return {}
