"""Small graphs that unit tests build on."""

from typing import Annotated, Any

from orchestrator.compiled import CompiledGraph
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.reducer import append
from orchestrator.state import State


class Unit(State):
    input: int = 0
    out: str = ""
    carry: Annotated[list[str], append] = []


class Batch(State):
    items: list[int] = []
    results: Annotated[list[str], append] = []
    log: Annotated[list[str], append] = []
    total: int = 0
    failures: list[dict[str, str]] = []


async def work(_state: Any) -> dict[str, Any]:
    return {}


def unit_graph() -> CompiledGraph[Unit]:
    return GraphBuilder(Unit).add_node("work", work).set_entry("work").add_edge("work", END).compile()


def batch_builder(**options: Any) -> GraphBuilder[Batch]:
    """A graph whose one node, `process`, is a fan-out; `options` are the fan-out's, and None drops one."""
    chosen = {
        "subgraph": unit_graph(),
        "items_field": "items",
        "item_field": "input",
        "collect_field": "out",
        "target_field": "results",
        **options,
    }
    return GraphBuilder(Batch).add_fan_out_node("process", **chosen).set_entry("process").add_edge("process", END)
