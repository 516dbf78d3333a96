"""A graph of which two versions are deployed one after the other: ROLLING_VERSION says which this process has."""

import asyncio
import itertools
import os
from pathlib import Path
from typing import Annotated

from rollforward import END, CompiledGraph, GraphBuilder, State, append

VERSION = os.environ.get("ROLLING_VERSION", "1")
POLL_SECONDS = 0.01
AT_ONCE = 2
"""So many instances, the first ones, do not wait."""


class Piece(State):
    """One item; `folder` is a place to leave notes in."""

    number: int = 0
    act: str = ""
    folder: str = ""
    result: str = ""


class Whole(State):
    """All items, and which version did each."""

    numbers: list[int] = []
    act: str = ""
    folder: str = ""
    results: Annotated[list[str], append] = []


async def work(piece: Piece) -> dict[str, str]:
    """Leave a note with the pid; but for the first ones, or where `act` is `go`, wait for a file `go`."""
    folder = Path(piece.folder)
    (folder / f"started-{piece.number}-{os.getpid()}").touch()
    must_wait = piece.number >= AT_ONCE and piece.act != "go"
    for _ in itertools.takewhile(lambda _: must_wait and not (folder / "go").exists(), itertools.count()):
        await asyncio.sleep(POLL_SECONDS)
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
