"""A fan-out whose items say what its instances do."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.reducer import append
from orchestrator.state import State

POLL_SECONDS = 0.01


class Piece(State):
    """One item: `act` is what to do, `folder` a place to leave notes in."""

    act: str = "double"
    number: int = 0
    folder: str = ""
    result: str = ""


class Whole(State):
    """All items, and what came of them."""

    numbers: list[int] = Field(default_factory=list)
    act: str = "double"
    folder: str = ""
    results: Annotated[list[str], append] = Field(default_factory=list)


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
            return {"result": await _until_told(piece)}
        case "block":
            return {"result": _block(piece)}
    raise AssertionError(f"no such act: {piece.act}")


async def _until_told(piece: Piece) -> str:
    """Leave a note with the pid, and wait for a file `go`; a second delivery finds it there."""
    is_told = _note(piece)
    for _ in itertools.takewhile(lambda _: not is_told(), itertools.count()):
        await asyncio.sleep(POLL_SECONDS)
    return str(os.getpid())


def _block(piece: Piece) -> str:
    """As `wait`, on the loop itself: nothing else turns meanwhile."""
    is_told = _note(piece)
    while not is_told():
        time.sleep(POLL_SECONDS)
    return str(os.getpid())


def _note(piece: Piece) -> Callable[[], bool]:
    folder = Path(piece.folder)
    (folder / f"started-{piece.number}-{os.getpid()}").touch()
    return (folder / "go").exists


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
