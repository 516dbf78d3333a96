"""The cheapest instance there is, as a graph of ours."""

from typing import Annotated

from rollforward import END, GraphBuilder, State, append


class Item(State):
    """One number."""

    number: int = 0
    result: int = 0


class Numbers(State):
    """All of them."""

    numbers: list[int] = []
    results: Annotated[list[int], append] = []


async def noop(state: Item) -> dict[str, int]:
    """Give back what came."""
    return {"result": state.number}


item = GraphBuilder(Item).add_node("noop", noop).set_entry("noop").add_edge("noop", END).compile("bench-item")

graph = (
    GraphBuilder(Numbers)
    .add_fan_out_node(
        "numbers",
        subgraph=item,
        items_field="numbers",
        item_field="number",
        collect_field="result",
        target_field="results",
        concurrency=None,
    )
    .set_entry("numbers")
    .add_edge("numbers", END)
    .compile("bench")
)
