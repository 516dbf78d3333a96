"""Parallel branches: what runs, what is merged in which order, and what a failure comes to."""

import asyncio
from typing import Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.compiled import CompiledGraph
from orchestrator.context import current_attempt_index
from orchestrator.errors import CompileError, EdgeException, NodeException, ParallelBranchesBranchFailed
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.node import BranchSpec
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.observers.event import Event, NodeEvent, Phase
from orchestrator.reducer import append
from orchestrator.state import State


class Outer(State):
    seed: int = 0
    items: list[int] = []
    log: Annotated[list[str], append] = []
    scores: Annotated[list[int], append] = []
    failures: Annotated[list[dict[str, str]], append] = []


class Inner(State):
    given: int = 0
    text: str = ""


def leaf(function: Any, *, follower: Any = None) -> CompiledGraph[Inner]:
    builder = GraphBuilder(Inner).add_node("leaf", function).set_entry("leaf")
    if follower is not None:
        builder.add_node("next", follower).add_edge("leaf", "next")
    return builder.compile()


def says(text: str) -> Any:
    async def say(_state: Any) -> dict[str, Any]:
        return {"text": text}

    return say


def logs(text: str) -> Any:
    async def log(_state: Any) -> dict[str, Any]:
        return {"log": [text]}

    return log


async def boom(_state: Any) -> dict[str, Any]:
    raise ValueError("boom")


def dispatching(branches: dict[str, BranchSpec], **options: Any) -> CompiledGraph[Outer]:
    return (
        GraphBuilder(Outer)
        .add_parallel_branches_node("split", branches=branches, **options)
        .set_entry("split")
        .add_edge("split", END)
        .compile()
    )


async def test_each_branch_is_given_its_inputs_and_gives_its_outputs():
    async def shout(state: Inner) -> dict[str, Any]:
        return {"text": f"got {state.given}"}

    class Wide(State):
        seed: int = 0
        told: str = ""
        other: str = "kept"

    branch = BranchSpec(subgraph=leaf(shout), inputs={"given": "seed"}, outputs={"told": "text"})
    graph = GraphBuilder(Wide).add_parallel_branches_node("split", branches={"a": branch}).set_entry("split").compile()
    assert (await graph.invoke(Wide(seed=4))).model_dump() == {"seed": 4, "told": "got 4", "other": "kept"}


async def test_contributions_are_merged_in_the_order_of_declaration_whatever_ends_first():
    first_may_end = asyncio.Event()

    async def late(_state: Any) -> dict[str, Any]:
        await first_may_end.wait()
        return {"log": ["declared first"]}

    async def early(_state: Any) -> dict[str, Any]:
        first_may_end.set()
        return {"log": ["declared second"]}

    graph = dispatching({"late": BranchSpec(call=late), "early": BranchSpec(call=early)})
    assert (await graph.invoke()).log == ["declared first", "declared second"]


async def test_under_fail_fast_the_others_are_cancelled_and_nothing_is_merged():
    cancelled: list[str] = []

    async def endless(_state: Any) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("endless")
            raise
        return {}

    branches = {"good": logs("good"), "bad": boom, "endless": endless}
    graph = dispatching({name: BranchSpec(call=call) for name, call in branches.items()})
    with pytest.raises(ParallelBranchesBranchFailed, match="boom") as raised:
        await graph.invoke()
    assert (raised.value.branch_name, raised.value.node_name) == ("bad", "split")
    assert raised.value.recoverable_state == Outer()
    assert isinstance(raised.value.__cause__, NodeException)
    assert cancelled == ["endless"]


async def test_under_collect_the_others_are_merged_and_the_failure_is_a_record():
    graph = dispatching(
        {"good": BranchSpec(call=logs("good")), "bad": BranchSpec(subgraph=leaf(boom))},
        error_policy="collect",
        errors_field="failures",
    )
    end = await graph.invoke()
    assert end.log == ["good"]
    (failure,) = end.failures
    assert (failure["branch_name"], failure["category"], failure["message"]) == ("bad", "node_exception", "boom")


@pytest.mark.parametrize("seed", [0, 1])
async def test_a_branch_whose_condition_does_not_hold_does_not_run(seed):
    graph = dispatching(
        {
            "always": BranchSpec(call=logs("always")),
            "seeded": BranchSpec(call=logs("seeded"), when=lambda s: s.seed > 0),
        }
    )
    seen: list[str | None] = []

    async def observe(event: Event) -> None:
        seen.append(event.branch_name)

    end = await graph.invoke(Outer(seed=seed), observers=[observe])
    await graph.drain()
    assert end.log == (["always", "seeded"] if seed else ["always"])
    assert ("seeded" in seen) is bool(seed)


async def test_a_condition_that_raises_is_the_failure_of_an_edge():
    def broken(_state: Any) -> bool:
        raise KeyError("no")

    with pytest.raises(EdgeException):
        await dispatching({"a": BranchSpec(call=logs("a"), when=broken)}).invoke()


async def test_middleware_of_a_branch_tries_that_branch_alone_again():
    tries: list[int] = []

    async def second_time(_state: Any) -> dict[str, Any]:
        tries.append(current_attempt_index())
        if len(tries) == 1:
            raise ValueError("not yet")
        return {"text": "done"}

    retry = RetryMiddleware(max_attempts=2, classifier=lambda _e, _s: True, backoff=deterministic_backoff(0))
    flaky = BranchSpec(subgraph=leaf(second_time), outputs={}, middleware=[retry])
    seen: list[tuple[str | None, int]] = []

    async def observe(event: Event) -> None:
        if isinstance(event, NodeEvent) and event.phase is Phase.STARTED:
            seen.append((event.branch_name, event.attempt_index))

    graph = dispatching({"flaky": flaky, "calm": BranchSpec(call=logs("calm"))})
    assert (await graph.invoke(observers=[observe])).log == ["calm"]
    await graph.drain()
    assert tries == [0, 1]
    assert sorted(seen, key=str) == [("calm", 0), ("flaky", 0), ("flaky", 1), (None, 0)]


async def test_what_a_middleware_leaves_out_keeps_its_value_outside():
    async def degrade(_state: Any, _call: Any) -> dict[str, Any]:
        return {}

    class Kept(State):
        told: str = "prior"

    branch = BranchSpec(subgraph=leaf(says("new")), outputs={"told": "text"}, middleware=[degrade])
    graph = GraphBuilder(Kept).add_parallel_branches_node("split", branches={"a": branch}).set_entry("split").compile()
    assert (await graph.invoke()).told == "prior"


async def test_events_inside_a_branch_name_it_and_start_in_the_order_of_declaration():
    seen: list[NodeEvent] = []

    async def observe(event: Event) -> None:
        assert isinstance(event, NodeEvent)
        seen.append(event)

    graph = dispatching(
        {
            "sub": BranchSpec(subgraph=leaf(says("x"))),
            "call": BranchSpec(call=logs("y")),
            "last": BranchSpec(call=logs("z")),
        }
    )
    await graph.invoke(observers=[observe])
    await graph.drain()
    started = [(event.namespace, event.branch_name) for event in seen if event.phase is Phase.STARTED]
    assert started == [
        (("split",), None),
        (("split", "leaf"), "sub"),
        (("split", "call"), "call"),
        (("split", "last"), "last"),
    ]
    assert {event.branch_name_chain for event in seen if event.node_name == "leaf"} == {("sub",)}
    (call,) = [event for event in seen if event.node_name == "call" and event.phase is Phase.COMPLETED]
    assert call.post_state.log == ["y"]


async def test_fan_outs_of_one_name_in_two_branches_never_mix():
    class Half(State):
        items: list[int] = []
        scores: Annotated[list[int], append] = []

    class Unit(State):
        item: int = 0
        out: int = 0

    def half(factor: int) -> CompiledGraph[Half]:
        async def score(state: Unit) -> dict[str, Any]:
            return {"out": state.item * factor}

        unit = GraphBuilder(Unit).add_node("score", score).set_entry("score").compile()
        options: Any = {"items_field": "items", "item_field": "item", "collect_field": "out", "target_field": "scores"}
        return GraphBuilder(Half).add_fan_out_node("each", subgraph=unit, **options).set_entry("each").compile()

    carried: Any = {"inputs": {"items": "items"}, "outputs": {"scores": "scores"}}
    graph = dispatching(
        {"one": BranchSpec(subgraph=half(1), **carried), "ten": BranchSpec(subgraph=half(10), **carried)}
    )
    store = MemoryStore()
    end = await graph.invoke(Outer(items=[1, 2, 3]), checkpointer=store, invocation_id="run")
    assert end.scores == [1, 2, 3, 10, 20, 30]
    assert {row.key.path for row in await store.fan_outs("run")} == {"split/one/each", "split/ten/each"}


async def test_a_resumed_run_does_not_run_again_what_a_branch_has_completed():
    ran: list[str] = []
    is_broken = [True]

    def noting(name: str) -> Any:
        async def note(_state: Any) -> dict[str, Any]:
            ran.append(name)
            return {"text": name}

        return note

    both_saved = asyncio.Event()

    async def fails_once(_state: Any) -> dict[str, Any]:
        await both_saved.wait()
        if is_broken:
            is_broken.clear()
            raise ValueError("once")
        return {"text": "mended"}

    class Two(State):
        one: str = ""
        two: str = ""

    done = leaf(noting("one"), follower=noting("one more"))
    half = leaf(noting("two"), follower=fails_once)
    branches = {
        "done": BranchSpec(subgraph=done, outputs={"one": "text"}),
        "half": BranchSpec(subgraph=half, outputs={"two": "text"}),
    }
    graph = GraphBuilder(Two).add_parallel_branches_node("split", branches=branches).set_entry("split").compile()
    store = MemoryStore()

    async def open_when_saved(event: Event) -> None:
        if event.node_name in ("next", "leaf") and event.branch_name == "done":
            saved.append(event.node_name)
            if "next" in saved:
                both_saved.set()

    saved: list[str] = []
    done.attach_observer(open_when_saved, phases=[Phase.CHECKPOINT_SAVED])
    with pytest.raises(ParallelBranchesBranchFailed):
        await graph.invoke(checkpointer=store, invocation_id="run")
    end = await graph.invoke(checkpointer=store, resume_invocation="run")
    assert (end.one, end.two) == ("one more", "mended")
    assert sorted(ran) == ["one", "one more", "two"]


@pytest.mark.parametrize(
    ("branches", "category"),
    [
        ({}, "parallel_branches_no_branches"),
        ({"a": BranchSpec()}, "parallel_branches_invalid_branch_spec"),
        ({"a": BranchSpec(call=boom, subgraph=leaf(boom))}, "parallel_branches_invalid_branch_spec"),
        ({"a": BranchSpec(call=boom, outputs={"log": "text"})}, "parallel_branches_invalid_branch_spec"),
        ({"a": BranchSpec(subgraph=leaf(boom), outputs={"nope": "text"})}, "mapping_references_undeclared_field"),
        ({"a": BranchSpec(subgraph=leaf(boom), inputs={"nope": "seed"})}, "mapping_references_undeclared_field"),
    ],
)
def test_branches_that_cannot_run_do_not_compile(branches, category):
    with pytest.raises(CompileError) as raised:
        dispatching(branches)
    assert raised.value.category == category


def test_the_order_of_branches_is_part_of_what_the_graph_is():
    one, two = BranchSpec(call=boom), BranchSpec(call=boom)
    assert dispatching({"a": one, "b": two}).fingerprint != dispatching({"b": two, "a": one}).fingerprint


async def test_a_retry_of_the_node_dispatches_all_branches_again():
    tries: list[int] = []

    async def flaky(_state: Any) -> dict[str, Any]:
        tries.append(current_attempt_index())
        if len(tries) == 1:
            raise ValueError("not yet")
        return {"log": ["flaky"]}

    retry = RetryMiddleware(max_attempts=2, classifier=lambda _e, _s: True, backoff=deterministic_backoff(0))
    graph = dispatching({"f": BranchSpec(call=flaky), "c": BranchSpec(call=logs("calm"))}, middleware=[retry])
    assert (await graph.invoke()).log == ["flaky", "calm"]
    assert tries == [0, 1]
