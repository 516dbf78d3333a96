"""A small graph that unit tests plan, run and fold."""

from typing import Annotated, Any

from orchestrator.compiled import CompiledGraph
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.reducer import append
from orchestrator.state import State


class Number(State):
    number: int = 0
    offset: int = 0
    square: int = 0
    note: str = ""


class Numbers(State):
    numbers: list[int] = []
    offset: int = 0
    bound: int = 2
    squares: Annotated[list[int], append] = []
    notes: Annotated[list[str], append] = []
    errors: list[dict[str, str]] = []
    count: int = -1


async def square(state: Number) -> dict[str, Any]:
    if state.number < 0:
        raise ValueError(f"{state.number} is negative")
    return {"square": state.number**2 + state.offset, "note": f"n{state.number}"}


def numbers_graph(**options: Any) -> CompiledGraph[Numbers]:
    """A graph whose fan-out `squares` squares numbers; `options` are the fan-out's."""
    number = GraphBuilder(Number).add_node("square", square).set_entry("square").compile("number")
    chosen = {
        "items_field": "numbers",
        "item_field": "number",
        "inputs": {"offset": "offset"},
        "extra_outputs": {"notes": "note"},
        "count_field": "count",
        **options,
    }
    return (
        GraphBuilder(Numbers)
        .add_fan_out_node("squares", subgraph=number, collect_field="square", target_field="squares", **chosen)
        .set_entry("squares")
        .add_edge("squares", END)
        .compile("numbers")
    )
