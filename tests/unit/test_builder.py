from datetime import timedelta

import pytest

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END, ConditionalEdge, StaticEdge
from orchestrator.graph.node import FanOutNode, FunctionNode, SubgraphNode
from orchestrator.graph.projection import DeclaredSameName, ExplicitMapping, FieldNameMatching
from tests.unit.small_graph import Batch, Unit, batch_builder, unit_graph, work


async def wrapper(state, call_next):
    return await call_next(state)


async def other_wrapper(state, call_next):
    return await call_next(state)


def test_calls_can_be_chained_and_give_a_graph():
    graph = (
        GraphBuilder(Unit)
        .add_node("a", work, middleware=[wrapper])
        .add_node("b", work)
        .add_middleware(other_wrapper)
        .set_entry("a")
        .add_edge("a", "b")
        .add_conditional_edge("b", lambda _state: END)
        .compile(name="chained")
    )
    assert graph.name == "chained"
    assert graph.state_class is Unit
    assert graph.entry == "a"
    assert graph.nodes["a"] == FunctionNode(name="a", function=work, middleware=(wrapper,))
    assert graph.middleware == (other_wrapper,)
    assert graph.edges["a"] == StaticEdge("a", "b")
    assert isinstance(graph.edges["b"], ConditionalEdge)
    assert graph.warnings == ()


def test_a_compiled_graph_does_not_change_with_its_builder():
    builder = GraphBuilder(Unit).add_node("a", work).set_entry("a").add_edge("a", END)
    graph = builder.compile()
    builder.add_node("b", work)
    assert list(graph.nodes) == ["a"]
    with pytest.raises(TypeError):
        graph.nodes["c"] = graph.nodes["a"]  # type: ignore[index]


def test_a_name_is_used_once():
    with pytest.raises(ValueError, match="another name"):
        GraphBuilder(Unit).add_node("a", work).add_node("a", work)


def test_a_second_entry_replaces_the_first():
    builder = GraphBuilder(Unit).add_node("a", work).add_node("b", work).add_edge("b", "a").add_edge("a", END)
    assert builder.set_entry("a").set_entry("b").compile().entry == "b"


def test_a_node_is_something_that_can_be_called():
    with pytest.raises(ValueError, match="cannot be called"):
        GraphBuilder(Unit).add_node("a", {"update": 1})  # type: ignore[arg-type]


def test_an_edge_function_is_a_plain_one():
    async def choose(_state):
        return END

    with pytest.raises(ValueError, match="plain function"):
        GraphBuilder(Unit).add_conditional_edge("a", choose)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "projection"),
    [
        ({}, FieldNameMatching()),
        ({"projection": DeclaredSameName(["out"], [])}, DeclaredSameName(["out"], [])),
        ({"inputs": {"input": "total"}}, ExplicitMapping(inputs={"input": "total"})),
        ({"outputs": {"total": "input"}}, ExplicitMapping(outputs={"total": "input"})),
    ],
)
def test_a_subgraph_node_has_one_projection(options, projection):
    inner = unit_graph()
    builder = GraphBuilder(Batch).add_subgraph_node("sub", inner, **options)
    assert builder._nodes["sub"] == SubgraphNode(name="sub", graph=inner, projection=projection)


def test_a_fan_out_has_the_defaults_that_users_know():
    node = batch_builder().compile().nodes["process"]
    assert isinstance(node, FanOutNode)
    assert (node.concurrency, node.error_policy, node.on_empty, node.run_on) == (10, "fail_fast", "raise", "workers")
    assert (node.inputs, node.extra_outputs, node.tags) == ({}, {}, {})
    assert (node.middleware, node.instance_middleware, node.time_limit) == ((), (), None)


def test_a_fan_out_takes_every_option():
    options = {
        "concurrency": None,
        "error_policy": "collect",
        "on_empty": "noop",
        "count_field": "total",
        "errors_field": "failures",
        "inputs": {"carry": "log"},
        "extra_outputs": {"results": "out"},
        "instance_middleware": [wrapper],
        "middleware": [other_wrapper],
        "key": "id",
        "tags": ["customer"],
        "run_on": "orchestrator",
        "queue": "gpu",
        "time_limit": timedelta(seconds=3),
        "subgraph_identity": "unit",
    }
    node = batch_builder(**options).compile().nodes["process"]
    told = {
        **options,
        "instance_middleware": (wrapper,),
        "middleware": (other_wrapper,),
        "tags": {"customer": "customer"},
    }
    assert {name: getattr(node, name) for name in options} == told


def test_no_bound_is_not_the_default_bound():
    assert batch_builder(concurrency=None).compile().nodes["process"].concurrency is None  # type: ignore[union-attr]


def test_what_an_instance_contributes_is_named_once():
    node = batch_builder(extra_outputs={"log": "carry", "failures": "out"}).compile().nodes["process"]
    assert isinstance(node, FanOutNode)
    assert node.contributed_fields == ("out", "carry")


@pytest.mark.parametrize(
    ("option", "value"),
    [("error_policy", "ignore"), ("on_empty", "skip"), ("run_on", "gpu"), ("time_limit", timedelta(0))],
)
def test_an_option_that_cannot_be_is_refused_at_once(option, value):
    with pytest.raises(ValueError, match=f"'process': {option}"):
        batch_builder(**{option: value})
