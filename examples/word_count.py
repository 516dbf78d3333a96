"""Count the words of a text, one instance a line."""

from typing import Annotated

from rollforward import END, GraphBuilder, State, append


class Line(State):
    """One line."""

    line: str
    words: int = 0


class Text(State):
    """The whole text; the counts are in the order of the lines."""

    lines: list[str]
    counts: Annotated[list[int], append] = []
    total: int = 0


async def count(state: Line) -> dict[str, int]:
    """Count the words of one line."""
    return {"words": len(state.line.split())}


async def add_up(state: Text) -> dict[str, int]:
    """Add up the counts of all lines."""
    return {"total": sum(state.counts)}


line = GraphBuilder(Line).add_node("count", count).set_entry("count").add_edge("count", END).compile()

graph = (
    GraphBuilder(Text)
    .add_fan_out_node(
        "lines", subgraph=line, items_field="lines", item_field="line", collect_field="words", target_field="counts"
    )
    .add_node("add_up", add_up)
    .set_entry("lines")
    .add_edge("lines", "add_up")
    .add_edge("add_up", END)
    .compile()
)
