"""A graph of which two versions are deployed one after the other: ROLLING_VERSION says which this process has."""

import os

from rollforward import END, CompiledGraph, GraphBuilder
from tests.graph.waiting import Piece, Whole, note, until_told

VERSION = os.environ.get("ROLLING_VERSION", "1")
AT_ONCE = 2
"""So many instances, the first ones, do not wait."""


async def work(piece: Piece) -> dict[str, str]:
    """Leave a note with the pid; but for the first ones, or where `act` is `go`, wait for a file `go`."""
    if piece.number >= AT_ONCE and piece.act != "go":
        await until_told(piece)
    else:
        note(piece)
    return {"result": VERSION}


async def sign(piece: Piece) -> dict[str, str]:
    """What the second version does besides."""
    return {"result": f"{piece.result}, signed"}


def _piece() -> CompiledGraph[Piece]:
    builder = GraphBuilder(Piece).add_node("work", work).set_entry("work")
    if VERSION == "1":
        return builder.add_edge("work", END).compile("piece_of_rolling")
    return builder.add_node("sign", sign).add_edge("work", "sign").add_edge("sign", END).compile("piece_of_rolling")


def _whole(name: str, queue: str | None) -> CompiledGraph[Whole]:
    return (
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
            queue=queue,
        )
        .set_entry("pieces")
        .add_edge("pieces", END)
        .compile(name)
    )


piece = _piece()
graph = _whole("rolling", None)
shared = _whole("rolling_shared", "shared")
