"""A fan-out whose instances are plain functions, which nothing can stop."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.reducer import append
from orchestrator.state import State

POLL_SECONDS = 0.01
LIMIT = timedelta(seconds=0.5)


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


def work(piece: Piece) -> dict[str, object]:
    """Give the double; where `act` is `wait`, leave a note with the pid and wait for a file `go` before."""
    if piece.act == "wait":
        folder = Path(piece.folder)
        (folder / f"started-{piece.number}-{os.getpid()}").touch()
        while not (folder / "go").exists():
            time.sleep(POLL_SECONDS)
    return {"result": str(2 * piece.number)}


piece = GraphBuilder(Piece).add_node("work", work).set_entry("work").add_edge("work", END).compile()


def _fan_out(name: str, time_limit: timedelta | None) -> GraphBuilder[Whole]:
    return (
        GraphBuilder(Whole)
        .add_fan_out_node(
            name,
            subgraph=piece,
            items_field="numbers",
            item_field="number",
            collect_field="result",
            target_field="results",
            inputs={"act": "act", "folder": "folder"},
            error_policy="collect",
            time_limit=time_limit,
        )
        .set_entry(name)
        .add_edge(name, END)
    )


graph = _fan_out("pieces", None).compile(name="plain")
limited = _fan_out("pieces", LIMIT).compile(name="limited")
