import gc

import pytest

from orchestrator.compiled import CompiledGraph
from orchestrator.errors import GraphNotFound
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.registry import Registry, registry
from tests.unit.small_graph import Unit, work

at_module_level = GraphBuilder(Unit).add_node("a", work).set_entry("a").add_edge("a", END).compile()


def graph(name: str | None = None, node: str = "a") -> CompiledGraph[Unit]:
    return GraphBuilder(Unit).add_node(node, work).set_entry(node).add_edge(node, END).compile(name)


def test_compile_registers_a_graph_under_its_name():
    mine = graph("registry-test-explicit")
    assert registry.find("registry-test-explicit") is mine
    assert ("registry-test-explicit", mine.fingerprint) in registry.known()


def test_a_graph_without_a_name_goes_by_its_module_and_variable():
    assert at_module_level.name == f"{__name__}:at_module_level"
    assert registry.find(at_module_level.name) is at_module_level


def test_a_graph_that_is_no_variable_goes_by_its_fingerprint():
    mine = graph(node="local")
    assert mine.name == f"{__name__}:{mine.fingerprint}"
    assert registry.find(mine.name) is mine


def test_of_two_equal_graphs_of_a_name_the_last_is_found():
    here, first, second = Registry(), graph("twice"), graph("twice")
    here.register(first)
    here.register(second)
    assert here.find("twice") is second
    assert here.known() == [("twice", first.fingerprint)]


def test_two_versions_of_a_name_are_both_kept():
    here, old, new = Registry(), graph("versions", "old"), graph("versions", "new")
    here.register(old)
    here.register(new)
    assert here.find("versions") is new
    assert here.find("versions", old.fingerprint) is old
    assert here.find("versions", new.fingerprint) is new


def test_another_fingerprint_is_not_found():
    here = Registry()
    here.register(graph("one"))
    with pytest.raises(GraphNotFound, match="0123456789abcdef") as refused:
        here.find("one", "0123456789abcdef")
    assert refused.value.category == "worker_graph_unknown"


@pytest.mark.parametrize("name", ["os:system", "json:decoder.JSONDecoder", "tests.unit.small_graph:work", ""])
def test_a_name_is_never_imported_or_walked_through(name):
    with pytest.raises(GraphNotFound):
        registry.find(name)


def test_a_source_builds_the_graphs_of_its_prefix_once():
    here, asked = Registry(), []

    def build(name):
        asked.append(name)
        return graph(name)

    here.add_source("fixture:", build)
    found = here.find("fixture:a/1")
    assert here.find("fixture:a/1", found.fingerprint) is found
    with pytest.raises(GraphNotFound):
        here.find("fixture:a/1", "0123456789abcdef")
    with pytest.raises(GraphNotFound):
        here.find("other:a/1")
    assert asked == ["fixture:a/1"]


def test_a_graph_that_nothing_holds_is_forgotten():
    here = Registry()
    here.register(graph())
    gc.collect()
    assert here.known() == []
