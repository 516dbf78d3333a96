"""A fan-out whose items say what its instances do."""

import os
import time

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from tests.graph.waiting import POLL_SECONDS, Piece, Whole, note, until_told


async def work(piece: Piece) -> dict[str, object]:
    """Do what `act` says."""
    match piece.act:
        case "double":
            return {"result": str(2 * piece.number)}
        case "fail":
            raise ValueError(f"item {piece.number} is bad")
        case "large":
            return {"result": "x" * 10_000}
        case "wait":
            return {"result": await _wait(piece)}
        case "block":
            return {"result": _block(piece)}
    raise AssertionError(f"no such act: {piece.act}")


async def _wait(piece: Piece) -> str:
    await until_told(piece)
    return str(os.getpid())


def _block(piece: Piece) -> str:
    """As `wait`, on the loop itself: nothing else turns meanwhile."""
    is_told = note(piece)
    while not is_told():
        time.sleep(POLL_SECONDS)
    return str(os.getpid())


piece = GraphBuilder(Piece).add_node("work", work).set_entry("work").add_edge("work", END).compile()

graph = (
    GraphBuilder(Whole)
    .add_fan_out_node(
        "pieces",
        subgraph=piece,
        items_field="numbers",
        item_field="number",
        collect_field="result",
        target_field="results",
        inputs={"act": "act", "folder": "folder"},
        error_policy="collect",
        key=str,
        tags={"parity": lambda number: "odd" if number % 2 else "even"},
    )
    .set_entry("pieces")
    .add_edge("pieces", END)
    .compile(name="tiny")
)
