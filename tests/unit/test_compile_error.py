from dataclasses import fields
from typing import Annotated, Any

import pytest

from orchestrator.errors import CompileError
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.projection import DeclaredSameName
from orchestrator.graph.warning import CompileWarning
from orchestrator.reducer import append, last_write_wins
from orchestrator.state import State
from orchestrator.status.row import StatusRow
from tests.unit.small_graph import Batch, Unit, batch_builder, unit_graph, work


def refused(builder: GraphBuilder[Any]) -> str | None:
    with pytest.raises(CompileError) as error:
        builder.compile()
    return error.value.category


def one_node() -> GraphBuilder[Unit]:
    return GraphBuilder(Unit).add_node("a", work).set_entry("a")


def subgraph_node(**options: Any) -> GraphBuilder[Batch]:
    return GraphBuilder(Batch).add_subgraph_node("a", unit_graph(), **options).set_entry("a").add_edge("a", END)


def test_an_entry_is_declared():
    assert refused(GraphBuilder(Unit).add_node("a", work).add_edge("a", END)) == "no_declared_entry"


def test_the_entry_is_a_node():
    assert refused(one_node().set_entry("ghost")) == "no_declared_entry"


def test_every_node_can_be_reached():
    assert refused(one_node().add_node("orphan", work).add_edge("a", END)) == "unreachable_node"


def test_behind_a_conditional_edge_any_node_may_be_reached():
    graph = one_node().add_node("b", work).add_conditional_edge("a", lambda _state: "b").add_edge("b", "a").compile()
    assert set(graph.nodes) == {"a", "b"}


def test_a_loop_compiles():
    assert one_node().add_edge("a", "a").compile().edges


def test_an_edge_leads_to_a_node():
    assert refused(one_node().add_edge("a", "ghost")) == "dangling_edge"


def test_an_edge_comes_from_a_node():
    assert refused(one_node().add_edge("a", END).add_edge("ghost", "a")) == "dangling_edge"


def test_a_node_has_one_edge_out():
    assert refused(one_node().add_edge("a", END).add_edge("a", "a")) == "multiple_outgoing_edges"
    assert refused(one_node().add_edge("a", END).add_conditional_edge("a", str)) == "multiple_outgoing_edges"


def test_a_field_has_one_reducer():
    class Torn(State):
        v: Annotated[list[str], append, last_write_wins] = []

    assert refused(GraphBuilder(Torn).add_node("a", work).set_entry("a").add_edge("a", END)) == "conflicting_reducers"


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": {"input": "ghost"}},
        {"inputs": {"ghost": "total"}},
        {"outputs": {"ghost": "out"}},
        {"outputs": {"total": "ghost"}},
        {"projection": DeclaredSameName([], ["ghost"])},
        {"projection": DeclaredSameName(["input"], [])},
        {"projection": DeclaredSameName([], ["total"])},
    ],
)
def test_a_projection_names_fields_that_both_sides_declare(options):
    assert refused(subgraph_node(**options)) == "mapping_references_undeclared_field"


@pytest.mark.parametrize("options", [{"inputs": {"carry": "log"}}, {"outputs": {"log": "carry"}}, {"inputs": {}}])
def test_a_node_has_one_form_of_projection(options):
    assert refused(subgraph_node(projection=DeclaredSameName(), **options)) == "conflicting_projection_forms"


@pytest.mark.parametrize(
    "options",
    [
        {"items_field": "ghost"},
        {"target_field": "ghost"},
        {"collect_field": "ghost"},
        {"count_field": "ghost"},
        {"errors_field": "ghost"},
        {"inputs": {"ghost": "log"}},
        {"inputs": {"carry": "ghost"}},
        {"extra_outputs": {"ghost": "carry"}},
        {"extra_outputs": {"log": "ghost"}},
    ],
)
def test_a_fan_out_names_fields_that_are_declared(options):
    assert refused(batch_builder(**options)) == "mapping_references_undeclared_field"


def test_the_items_of_a_fan_out_are_a_list():
    assert refused(batch_builder(items_field="total")) == "fan_out_field_not_list"


@pytest.mark.parametrize("annotation", [list, list[int], tuple[int, ...], Annotated[list[int], append]])
def test_items_may_be_any_kind_of_list(annotation):
    class Listed(Batch):
        items: annotation = ()  # type: ignore[valid-type]

    fan_out = batch_builder()._nodes["process"]
    assert GraphBuilder(Listed)._add(fan_out).set_entry("process").compile().nodes


@pytest.mark.parametrize("options", [{"count": 3}, {"items_field": None, "item_field": None}])
def test_a_fan_out_counts_in_one_way(options):
    assert refused(batch_builder(**options)) == "fan_out_count_mode_ambiguous"


def test_a_fan_out_may_go_by_count():
    assert batch_builder(items_field=None, item_field=None, count=lambda state: state.total).compile().warnings == ()


class Customer(State):
    name: str = ""

    @property
    def initial(self) -> str:
        return self.name[:1]


def named_builder(annotation: Any, **options: Any) -> GraphBuilder[Any]:
    class Customers(Batch):
        items: annotation = []

    node = batch_builder(**options)._nodes["process"]
    return GraphBuilder(Customers)._add(node).set_entry("process")


@pytest.mark.parametrize("options", [{"key": "ghost"}, {"tags": ["ghost"]}, {"tags": {"who": "ghost"}}])
@pytest.mark.parametrize("items", [list[Customer], tuple[Customer, ...], list[Annotated[Customer, "doc"]]])
def test_an_instance_is_named_by_fields_that_its_item_has(items, options):
    assert refused(named_builder(items, **options)) == "mapping_references_undeclared_field"


@pytest.mark.parametrize("options", [{"key": "index"}, {"tags": ["number"]}])
def test_an_index_has_no_field_to_name_an_instance_by(options):
    assert refused(batch_builder(items_field=None, item_field=None, count=3, **options)) == (
        "mapping_references_undeclared_field"
    )


@pytest.mark.parametrize("items", [list[Customer], list[dict[str, str]], list[Any], list])
def test_names_that_an_item_has_or_may_have_compile(items):
    assert named_builder(items, key="name", tags={"by": "initial", "size": len, "full": "name"}).compile().nodes


@pytest.mark.parametrize(
    "tags", [["key"], ["run_id"], {"fan_out_index": str}, [""], ["a b"], [str(n) for n in range(33)]]
)
def test_a_tag_has_a_name_of_its_own(tags):
    assert refused(batch_builder(tags=tags)) == "fan_out_tag_refused"


@pytest.mark.parametrize("name", sorted({*(field.name for field in fields(StatusRow)), "node_path"}))
def test_no_tag_is_called_as_a_column_of_a_status_row(name):
    assert refused(batch_builder(tags={name: str})) == "fan_out_tag_refused"


class Degrade:
    def __init__(self, degraded_update: Any) -> None:
        self.degraded_update = degraded_update

    async def __call__(self, state: Any, call_next: Any) -> Any:
        return await call_next(state)


def test_a_fixed_degraded_update_gives_what_is_collected():
    missing = batch_builder(instance_middleware=[Degrade({"carry": []})])
    assert refused(missing) == "fan_out_degraded_update_missing_collect_field"
    batch_builder(instance_middleware=[Degrade({"out": "(degraded)"})]).compile()
    batch_builder(instance_middleware=[Degrade(lambda _state: {"carry": []})]).compile()


def warned(builder: GraphBuilder[Any]) -> list[str]:
    with pytest.warns(CompileWarning) as caught:
        graph = builder.compile()
    told = [warning.message.category for warning in caught if isinstance(warning.message, CompileWarning)]
    assert told == [warning.category for warning in graph.warnings]
    return told


@pytest.mark.parametrize(
    "builder",
    [
        lambda: batch_builder(inputs={"carry": "log"}, extra_outputs={"log": "carry"}),
        lambda: batch_builder(inputs={"out": "results"}),
        lambda: subgraph_node(inputs={"carry": "log"}, outputs={"log": "carry"}),
        lambda: same_name_node(DeclaredSameName(["log"], ["log"])),
    ],
)
def test_a_round_trip_into_a_reducer_that_is_not_idempotent_warns(builder):
    assert warned(builder()) == ["projection_reducer_round_trip"]


def test_an_item_that_comes_back_into_its_list_warns():
    class Grown(Batch):
        items: Annotated[list[int], append] = []

    node = batch_builder(collect_field="input", target_field="items")._nodes["process"]
    assert warned(GraphBuilder(Grown)._add(node).set_entry("process")) == ["projection_reducer_round_trip"]


@pytest.mark.parametrize(
    "builder",
    [
        lambda: batch_builder(inputs={"carry": "log"}, extra_outputs={"results": "carry"}),
        lambda: batch_builder(inputs={"input": "total"}, item_field="input", extra_outputs={"total": "input"}),
        lambda: subgraph_node(inputs={"input": "total"}, outputs={"total": "input"}),
        lambda: same_name_node(DeclaredSameName(["log"], [])),
        lambda: subgraph_node(),
    ],
)
def test_what_is_no_round_trip_or_does_no_harm_does_not_warn(builder):
    assert builder().compile().warnings == ()


def same_name_node(projection: DeclaredSameName) -> GraphBuilder[Batch]:
    class Logged(State):
        log: Annotated[list[str], append] = []

    inner = GraphBuilder(Logged).add_node("a", work).set_entry("a").compile()
    return GraphBuilder(Batch).add_subgraph_node("a", inner, projection).set_entry("a")


def test_an_item_that_no_instance_gets_warns():
    assert warned(batch_builder(item_field="anything")) == ["fan_out_item_field_undeclared"]


def test_an_error_says_what_to_do():
    with pytest.raises(CompileError, match=r"names 'ghost'.*add it, or name one of 'a'") as error:
        one_node().add_edge("a", "ghost").compile()
    assert error.value.node == "a"
