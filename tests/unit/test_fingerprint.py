import os
import subprocess
import sys
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, create_model

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.projection import DeclaredSameName
from orchestrator.reducer import append, bounded_append, merge_by_key
from orchestrator.state import State
from tests.unit.small_graph import Batch, Unit, batch_builder, unit_graph, work

ROOT = Path(__file__).parents[2]


async def other_work(_state: Any) -> dict[str, Any]:
    return {}


async def wrapper(state: Any, call_next: Any) -> Any:
    return await call_next(state)


def choose(_state: Any) -> Any:
    return END


def of(state_class: type[State], **annotations: Any) -> str:
    fields = {"__annotations__": annotations, "__module__": __name__}
    made = type(state_class.__name__, (state_class,), fields)
    return GraphBuilder(made).add_node("a", work).set_entry("a").compile().fingerprint


def line(*nodes: str) -> GraphBuilder[Unit]:
    builder = GraphBuilder(Unit).set_entry(nodes[0])
    for node in nodes:
        builder.add_node(node, work)
    for source, target in pairwise(nodes):
        builder.add_edge(source, target)
    return builder


def test_it_is_16_hex_digits_and_equal_for_equal_graphs():
    first, second = line("a", "b").compile().fingerprint, line("a", "b").compile("named").fingerprint
    assert first == second
    assert len(first) == 16
    assert int(first, 16) >= 0


def test_the_order_of_calls_does_not_matter():
    one = GraphBuilder(Unit).add_node("a", work).add_node("b", work).add_edge("a", "b").add_edge("b", END)
    two = GraphBuilder(Unit).add_node("b", work).add_edge("b", END).add_node("a", work).add_edge("a", "b")
    assert one.set_entry("a").compile().fingerprint == two.set_entry("a").compile().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        lambda: line("a", "c"),
        lambda: line("a", "b", "c"),
        lambda: line("a", "b").add_edge("b", "a"),
        lambda: line("a", "b").add_conditional_edge("b", choose),
        lambda: line("a", "b").add_middleware(wrapper),
        lambda: line("b", "a"),
        lambda: GraphBuilder(Unit).add_node("a", other_work).add_node("b", work).set_entry("a").add_edge("a", "b"),
        lambda: GraphBuilder(Batch).add_node("a", work).add_node("b", work).set_entry("a").add_edge("a", "b"),
    ],
)
def test_another_structure_is_another_graph(changed):
    assert changed().compile().fingerprint != line("a", "b").compile().fingerprint


class Plain(State):
    """A state."""


class Deep(BaseModel):
    size: int = 0


class Deeper(Deep):
    more: str = ""


class Colour(Enum):
    RED = 1


def test_another_schema_is_another_graph():
    annotations: list[dict[str, Any]] = [
        {},
        {"v": int},
        {"w": int},
        {"v": int | None},
        {"v": Annotated[int, Field(gt=0)]},
        {"v": list[int]},
        {"v": Annotated[list[int], append]},
        {"v": Annotated[list[int], bounded_append(3)]},
        {"v": Annotated[list[int], bounded_append(4)]},
        {"v": Annotated[list[int], merge_by_key("id")]},
        {"v": Annotated[list[int], merge_by_key("name")]},
        {"v": Deep},
        {"v": Deeper},
        {"v": Colour},
    ]
    found = [of(Plain, **fields) for fields in annotations]
    assert len(set(found)) == len(found)


def test_words_and_defaults_do_not_matter():
    class Documented(State):
        """A state with much to say."""

        title: str = Field(default="x", description="what it is called", examples=["a"])
        tags: set[str] = {"a", "b", "c", "d"}

    class Terse(State):
        title: str = ""
        tags: set[str] = set()

    graphs = [GraphBuilder(one).add_node("a", work).set_entry("a").compile() for one in (Documented, Terse)]
    assert graphs[0].fingerprint == graphs[1].fingerprint


def test_words_and_defaults_inside_a_model_do_not_matter():
    def part(doc: str, default: int) -> type[BaseModel]:
        made: type[BaseModel] = create_model("Part", __doc__=doc, size=(int, Field(default=default, title=doc)))
        return made

    assert of(Plain, v=part("A part.", 1)) == of(Plain, v=part("One of many.", 2))


def test_a_field_called_default_matters():
    class Named(BaseModel):
        default: int = 0

    class Unnamed(BaseModel):
        pass

    assert of(Plain, v=Named) != of(Plain, v=Unnamed)


def test_a_type_without_a_json_schema_has_a_fingerprint():
    class Odd(State):
        model_config = {"arbitrary_types_allowed": True}
        socket: Any = None
        path: type | None = None

    assert GraphBuilder(Odd).add_node("a", work).set_entry("a").compile().fingerprint


@pytest.mark.parametrize(
    "options",
    [
        {"error_policy": "collect"},
        {"on_empty": "noop"},
        {"extra_outputs": {"log": "carry"}},
        {"inputs": {"carry": "log"}},
        {"instance_middleware": [wrapper]},
        {"middleware": [wrapper]},
        {"count_field": "total"},
        {"errors_field": "failures"},
    ],
)
def test_another_policy_is_another_graph(options):
    assert batch_builder(**options).compile().fingerprint != batch_builder().compile().fingerprint


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 500}, {"queue": "gpu"}, {"run_on": "orchestrator"}, {"tags": ["customer"]}, {"key": "id"}],
)
def test_how_fast_where_and_under_which_name_instances_run_does_not_matter(options):
    assert batch_builder(**options).compile().fingerprint == batch_builder().compile().fingerprint


def test_another_projection_is_another_graph():
    def outer(**options: Any) -> str:
        return GraphBuilder(Batch).add_subgraph_node("a", unit_graph(), **options).set_entry("a").compile().fingerprint

    found = [
        outer(),
        outer(inputs={"input": "total"}),
        outer(outputs={"total": "input"}),
        outer(projection=DeclaredSameName()),
    ]
    assert len(set(found)) == len(found)


PROGRAM = """
from typing import Annotated
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.projection import DeclaredSameName
from orchestrator.reducer import dedupe_append
from orchestrator.state import State

class Inner(State):
    a: set[str] = {"x", "y", "z"}
    b: int = 0
    c: int = 0

class Outer(State):
    b: int = 0
    c: int = 0
    d: Annotated[list[dict[str, int]], dedupe_append(lambda item: item["id"])] = []

async def node(state): return {}
def choose(state): return END

inner = GraphBuilder(Inner).add_node("n", node).set_entry("n").add_conditional_edge("n", choose).compile()
graph = (
    GraphBuilder(Outer).add_subgraph_node("s", inner, DeclaredSameName({"b", "c"}, {"c", "b"}))
    .set_entry("s").add_edge("s", END).compile()
)
if __name__ == "__main__":
    print(graph.name, graph.fingerprint)
"""


def test_name_and_fingerprint_are_the_same_in_every_process(tmp_path):
    (tmp_path / "flows.py").write_text(PROGRAM)
    ways = [
        [str(tmp_path / "flows.py")],
        ["-m", "flows"],
        ["-c", "import flows; print(flows.graph.name, flows.graph.fingerprint)"],
    ]
    told = {
        subprocess.run(
            [sys.executable, *way],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": f"{ROOT}:{tmp_path}"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed, way in enumerate(ways)
    }
    assert len(told) == 1
    assert told.pop().startswith("flows:graph ")
