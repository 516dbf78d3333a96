"""What failure isolation catches, what it puts in place, and what observers are told of it."""

from typing import Annotated, Any

import pytest

from orchestrator.compiled import CompiledGraph
from orchestrator.errors import Fenced, LedgerUnavailable, NodeException, ReducerError, RunCancelled
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.node import BranchSpec
from orchestrator.middleware.failure_isolation import FailureIsolationMiddleware
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.observers.event import Event, FailureIsolatedEvent
from orchestrator.reducer import append, concat_flatten
from orchestrator.state import State


class Down(Exception):
    category = "provider_unavailable"


class Unit(State):
    item: int = 0
    out: str = ""
    note: str = ""


class Batch(State):
    items: list[int] = [7]
    text: str = "prior"
    results: Annotated[list[Any], append] = []
    notes: Annotated[list[Any], append] = []
    flat: Annotated[list[Any], concat_flatten] = []


async def down(_state: Any) -> dict[str, Any]:
    raise Down("service down")


async def plainly_broken(_state: Any) -> dict[str, Any]:
    raise ValueError("boom")


def one_node(function: Any, *middleware: Any) -> CompiledGraph[Batch]:
    return GraphBuilder(Batch).add_node("node", function, middleware=middleware).set_entry("node").compile()


def unit(function: Any = down) -> CompiledGraph[Unit]:
    return GraphBuilder(Unit).add_node("work", function).set_entry("work").compile()


def fan_out(middleware: Any, *, function: Any = down, target: str = "results") -> CompiledGraph[Batch]:
    return (
        GraphBuilder(Batch)
        .add_fan_out_node(
            "each",
            subgraph=unit(function),
            items_field="items",
            item_field="item",
            collect_field="out",
            target_field=target,
            extra_outputs={"notes": "note"},
            instance_middleware=[middleware],
        )
        .set_entry("each")
        .compile()
    )


async def run(graph: CompiledGraph[Batch]) -> tuple[Batch, list[FailureIsolatedEvent]]:
    caught: list[FailureIsolatedEvent] = []

    async def observe(event: Event) -> None:
        if isinstance(event, FailureIsolatedEvent):
            caught.append(event)

    end = await graph.invoke(observers=[observe])
    await graph.drain()
    return end, caught


async def test_a_failed_node_is_replaced_by_the_degraded_update():
    end, (event,) = await run(one_node(down, FailureIsolationMiddleware({"text": "less"}, event_name="text_failed")))
    assert end.text == "less"
    assert (event.event_name, event.namespace, event.attempt_index) == ("text_failed", ("node",), 0)
    assert (event.pre_state.text, event.post_state) == ("prior", {"text": "less"})
    caught = event.caught_exception
    assert (caught.category, caught.message) == ("provider_unavailable", "service down")
    assert [(link.carrier, link.category) for link in caught.chain] == [(False, "provider_unavailable")]


async def test_the_update_may_be_a_function_of_the_state_before():
    middleware = FailureIsolationMiddleware(lambda state: {"text": f"not {state.text}"}, event_name="e")
    assert (await run(one_node(down, middleware)))[0].text == "not prior"


async def test_around_a_retry_it_catches_the_last_attempt():
    retry = RetryMiddleware(max_attempts=2, backoff=deterministic_backoff(0))
    isolation = FailureIsolationMiddleware({"text": "less"}, event_name="e")
    _, (event,) = await run(one_node(down, isolation, retry))
    assert event.attempt_index == 1


async def test_an_exception_of_no_category_is_caught_and_has_none():
    _, (event,) = await run(one_node(plainly_broken, FailureIsolationMiddleware({}, event_name="e")))
    assert (event.caught_exception.category, event.caught_exception.message) == (None, "boom")


async def test_around_an_instance_the_category_is_that_of_the_cause():
    middleware = FailureIsolationMiddleware({"out": "less"}, event_name="e", catch=["provider_unavailable"])
    end, (event,) = await run(fan_out(middleware))
    assert (end.results, end.notes) == (["less"], [None])
    assert event.caught_exception.category == "provider_unavailable"
    assert [link.carrier for link in event.caught_exception.chain] == [True, False]
    assert (event.namespace, event.fan_out_index, event.pre_state.item) == (("each",), 0, 7)


async def test_what_a_degraded_instance_leaves_out_is_an_empty_place():
    end, _ = await run(fan_out(FailureIsolationMiddleware(lambda _state: {"note": "fell back"}, event_name="e")))
    assert (end.results, end.notes) == ([None], ["fell back"])


async def test_a_strict_reducer_refuses_the_empty_place():
    with pytest.raises(ReducerError):
        await run(fan_out(FailureIsolationMiddleware(lambda _state: {}, event_name="e"), target="flat"))


async def test_around_a_branch_the_update_has_the_fields_of_its_subgraph():
    isolation = FailureIsolationMiddleware({"out": "less"}, event_name="e")
    branch = BranchSpec(subgraph=unit(), outputs={"text": "out"}, middleware=[isolation])
    graph = GraphBuilder(Batch).add_parallel_branches_node("split", branches={"only": branch}).set_entry("split")
    end, (event,) = await run(graph.compile())
    assert end.text == "less"
    assert (event.namespace, event.branch_name, event.post_state) == (("split",), "only", {"out": "less"})


async def test_a_category_that_is_not_to_be_caught_passes():
    middleware = FailureIsolationMiddleware({"out": ""}, event_name="e", catch=["provider_rate_limit"])
    with pytest.raises(NodeException):
        await run(fan_out(middleware))


async def test_a_predicate_decides_on_the_exception_itself():
    middleware = FailureIsolationMiddleware({}, event_name="e", predicate=lambda error: isinstance(error, Down))
    assert len((await run(one_node(down, middleware)))[1]) == 1
    with pytest.raises(NodeException):
        await run(one_node(plainly_broken, middleware))


async def test_who_asks_for_it_is_told_of_the_very_exception_once():
    told: list[Exception] = []

    async def on_caught(error: Exception) -> None:
        told.append(error)

    await run(one_node(down, FailureIsolationMiddleware({}, event_name="e", on_caught=on_caught)))
    assert [type(error) for error in told] == [Down]


@pytest.mark.parametrize(
    "stop", [Fenced("run", 1), RunCancelled("run"), LedgerUnavailable("away")], ids=lambda e: e.category
)
async def test_what_stops_the_run_is_never_caught(stop):
    async def stopped(_state: Any) -> dict[str, Any]:
        raise stop

    async def call(state: Any) -> Any:
        return await stopped(state)

    with pytest.raises(type(stop)):
        await FailureIsolationMiddleware({}, event_name="e")(Batch(), call)
