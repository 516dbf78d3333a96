import pytest

from orchestrator.codec import Codec
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import EdgeException, RoutingError
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END, Choice
from tests.unit.small_graph import Batch, Unit, batch_builder, unit_graph, work


def routed(choose: Choice) -> CompiledGraph[Unit]:
    builder = GraphBuilder(Unit).add_node("a", work).add_node("b", work).set_entry("a")
    return builder.add_conditional_edge("a", choose).add_edge("b", END).compile()


def test_a_static_edge_leads_where_it_says():
    graph = GraphBuilder(Unit).add_node("a", work).add_node("b", work).set_entry("a").add_edge("a", "b").compile()
    assert graph.next_node("a", Unit()) == "b"


def test_a_node_without_an_edge_leads_to_the_end():
    assert GraphBuilder(Unit).add_node("a", work).set_entry("a").compile().next_node("a", Unit()) is END


def test_a_conditional_edge_sees_the_state():
    graph = routed(lambda state: "b" if state.input else END)
    assert graph.next_node("a", Unit(input=1)) == "b"
    assert graph.next_node("a", Unit(input=0)) is END


@pytest.mark.parametrize("returned", ["ghost", "END", None, ["b"], 3])
def test_an_edge_that_names_no_node_is_a_routing_error(returned):
    state = Unit(input=3)
    with pytest.raises(RoutingError) as refused:
        routed(lambda _state: returned).next_node("a", state)
    error = refused.value
    assert (error.node_name, error.returned) == ("a", returned)
    assert error.recoverable_state is state


def test_an_edge_that_raises_is_an_edge_exception():
    def choose(_state):
        raise ValueError("boom")

    state = Unit()
    with pytest.raises(EdgeException, match="boom") as refused:
        routed(choose).next_node("a", state)
    assert isinstance(refused.value.__cause__, ValueError)
    assert refused.value.recoverable_state is state


def test_a_node_is_found_through_what_encloses_it():
    batch = batch_builder().compile()
    outer = GraphBuilder(Batch).add_subgraph_node("sub", batch).set_entry("sub").compile()
    assert outer.node_at(("sub",)) is outer.nodes["sub"]
    assert outer.node_at(("sub", "process")) is batch.nodes["process"]
    assert outer.node_at(("sub", "process", "work")).name == "work"
    assert outer.fan_out_at(("sub", "process")) is batch.nodes["process"]


@pytest.mark.parametrize("path", [(), ("ghost",), ("process", "ghost"), ("process", "work", "deeper")])
def test_a_node_that_is_not_there_is_said(path):
    with pytest.raises(LookupError, match="has no node"):
        batch_builder().compile().node_at(path)


def test_a_node_that_is_no_fan_out_is_said():
    with pytest.raises(LookupError, match="is no fan-out"):
        unit_graph().fan_out_at(("work",))


def test_a_graph_has_the_codec_of_its_state():
    assert unit_graph().codec is Codec.of(Unit)


def test_end_is_a_value_of_its_own():
    assert not isinstance(END, str)
    assert repr(END) == "END"
