"""A fan-out whose instances come one after the other, so that an instance's number is that of its arrival."""

from rollforward import END, GraphBuilder
from tests.graph.witnessed import Numbers, number, total

graph = (
    GraphBuilder(Numbers)
    .add_fan_out_node(
        "squares",
        subgraph=number,
        items_field="numbers",
        item_field="number",
        collect_field="square",
        target_field="squares",
        errors_field="errors",
        error_policy="collect",
        key=str,
        concurrency=1,
    )
    .add_node("total", total)
    .set_entry("squares")
    .add_edge("squares", "total")
    .add_edge("total", END)
    .compile("crashed")
)
