"""What a log line says of the run and the place that it was written in."""

import json
import logging
from contextvars import ContextVar
from typing import Any

import pytest
import structlog

from orchestrator.observers.event import Event
from rollforward import (
    END,
    CompiledGraph,
    CorrelationFilter,
    GraphBuilder,
    RetryMiddleware,
    State,
    add_correlation,
    correlation,
    deterministic_backoff,
)
from rollforward.log import formatter
from tests.unit.span_tree import SpanTree

OF_RUN = {"run_id": "r", "invocation_id": "r", "correlation_id": "c"}


class Item(State):
    names: list[str] = ["a"]
    name: str = ""


def one(node: Any, **options: Any) -> CompiledGraph[Item]:
    return GraphBuilder(Item).add_node("work", node, **options).set_entry("work").add_edge("work", END).compile()


def each(node: Any, **options: Any) -> CompiledGraph[Item]:
    return (
        GraphBuilder(Item)
        .add_fan_out_node(
            "each",
            subgraph=one(node),
            items_field="names",
            item_field="name",
            collect_field="name",
            target_field="names",
            **options,
        )
        .set_entry("each")
        .add_edge("each", END)
        .compile()
    )


def remembering() -> tuple[Any, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    async def work(_state: Item) -> dict[str, Any]:
        seen.append(correlation())
        return {}

    return work, seen


async def invoke(graph: CompiledGraph[Item], **how: Any) -> None:
    await graph.invoke(invocation_id="r", correlation_id="c", **how)


async def test_a_node_knows_its_run_its_path_and_its_attempt():
    work, seen = remembering()
    wrapped = GraphBuilder(Item).add_subgraph_node("wrap", one(work)).set_entry("wrap").add_edge("wrap", END).compile()
    await invoke(wrapped)
    assert seen == [{**OF_RUN, "node": "wrap/work", "attempt": 0}]


async def test_a_later_attempt_says_so():
    seen: list[Any] = []

    async def work(_state: Item) -> dict[str, Any]:
        seen.append(correlation()["attempt"])
        if len(seen) == 1:
            raise TimeoutError
        return {}

    retry = RetryMiddleware(classifier=lambda _error, _state: True, backoff=deterministic_backoff(0))
    await invoke(one(work, middleware=[retry]))
    assert seen == [0, 1]


async def test_an_instance_knows_its_index_its_key_and_its_delivery():
    work, seen = remembering()
    await invoke(each(work, key=str))
    assert seen == [{**OF_RUN, "node": "each/work", "attempt": 0, "index": 0, "item_key": "a", "delivery": 1}]


async def test_where_it_is_traced_the_ids_of_the_span_are_known():
    work, seen = remembering()
    await invoke(one(work), observers=[SpanTree()])
    assert (seen[0]["trace_id"], seen[0]["span_id"]) == ("t" * 32, "s" * 16)


def record(**given: Any) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.INFO, "f.py", 1, "said", (), None)
    made.__dict__.update(given)
    assert CorrelationFilter().filter(made)
    return made


async def test_a_record_made_in_a_thread_has_what_is_known_and_keeps_what_the_caller_gave():
    lines: list[dict[str, Any]] = []

    def work(_state: Item) -> dict[str, Any]:
        lines.append(json.loads(formatter(is_terminal=False).format(record(run_id="mine"))))
        return {}

    await invoke(one(work))
    assert lines[0].pop("timestamp")
    assert lines == [{**OF_RUN, "run_id": "mine", "event": "said", "level": "info", "node": "work", "attempt": 0}]


async def test_structlog_has_the_same():
    captured = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[add_correlation, captured])

    async def work(_state: Item) -> dict[str, Any]:
        logger.info("said", node="mine")
        return {}

    await invoke(one(work))
    assert captured.entries == [{**OF_RUN, "event": "said", "log_level": "info", "node": "mine", "attempt": 0}]


def test_outside_a_run_nothing_is_added():
    assert correlation() == {}
    assert "run_id" not in record().__dict__
    assert add_correlation(None, "info", {"event": "said"}) == {"event": "said"}


async def double(_state: Item) -> dict[str, Any]:
    return {}


CALLER: ContextVar[str] = ContextVar("caller")


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
async def test_an_observer_knows_its_run_and_its_caller_and_no_place_in_it(run_on: str):
    seen: list[tuple[dict[str, Any], str]] = []

    async def observe(_event: Event) -> None:
        seen.append((correlation(), CALLER.get()))

    graph = each(double, run_on=run_on)
    graph.attach_observer(observe, phases=["started", "completed", "instance"])
    CALLER.set("a request")
    await invoke(graph, observers=[SpanTree()])
    await graph.drain()
    assert len(seen) > 4
    assert all(told == (OF_RUN, "a request") for told in seen)


async def test_an_observer_of_a_graph_that_a_node_invokes_knows_the_inner_run_and_not_the_node():
    seen: list[dict[str, Any]] = []

    async def observe(_event: Event) -> None:
        seen.append(correlation())

    async def work(_state: Item) -> dict[str, Any]:
        inner = one(double)
        await inner.invoke(invocation_id="inner", correlation_id="c", observers=[observe])
        await inner.drain()
        return {}

    await invoke(each(work))
    assert seen == [{**OF_RUN, "run_id": "inner", "invocation_id": "inner"}] * 2
