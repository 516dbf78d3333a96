"""A fan-out nested in a fan-out, whose every inner execution leaves a line as in `witnessed`."""

from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append
from tests.graph.witnessed import number


class Row(State):
    numbers: list[int] = []
    squares: Annotated[list[int], append] = []


class Rows(State):
    rows: list[list[int]] = []
    squares: Annotated[list[list[int]], append] = []


inner: dict[str, Any] = {"item_field": "number", "collect_field": "square", "concurrency": 1}
row = (
    GraphBuilder(Row)
    .add_fan_out_node("numbers", subgraph=number, items_field="numbers", target_field="squares", **inner)
    .set_entry("numbers")
    .add_edge("numbers", END)
    .compile("row")
)

graph = (
    GraphBuilder(Rows)
    .add_fan_out_node(
        "rows",
        subgraph=row,
        items_field="rows",
        item_field="numbers",
        collect_field="squares",
        target_field="squares",
    )
    .set_entry("rows")
    .add_edge("rows", END)
    .compile("nested-witnessed")
)
