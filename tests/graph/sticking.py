"""Instances that end at once, that outlast the time limit of their fan-out, and that stick where no such limit acts."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from rollforward import END, CompiledGraph, GraphBuilder, State, append

LIMIT = timedelta(seconds=0.5)
POLL_SECONDS = 0.01

Act = Literal["end", "wait", "stick"]


class Piece(State):
    """One instance; `folder` is a place to leave a line with the pid in, for each time it begins."""

    act: Act = "end"
    folder: str = ""
    out: str = ""


class Whole(State):
    """All of them."""

    acts: list[Act] = []
    folder: str = ""
    outs: Annotated[list[str], append] = []


async def work(piece: Piece) -> dict[str, Any]:
    """End; or wait, which a time limit ends; or stick, so that even the loop does not turn any more."""
    with (Path(piece.folder) / "begun").open("a") as begun:
        begun.write(f"{piece.act} {os.getpid()}\n")
    if piece.act == "wait":
        await asyncio.Event().wait()
    if piece.act == "stick":
        _stick()
    return {"out": piece.act}


def _stick() -> None:
    while True:
        time.sleep(POLL_SECONDS)


piece = GraphBuilder(Piece).add_node("work", work).set_entry("work").add_edge("work", END).compile("sticking_piece")


def _whole(name: str, time_limit: timedelta | None) -> CompiledGraph[Whole]:
    return (
        GraphBuilder(Whole)
        .add_fan_out_node(
            "pieces",
            subgraph=piece,
            items_field="acts",
            item_field="act",
            collect_field="out",
            target_field="outs",
            inputs={"folder": "folder"},
            error_policy="collect",
            time_limit=time_limit,
        )
        .set_entry("pieces")
        .add_edge("pieces", END)
        .compile(name)
    )


limited = _whole("sticking_limited", LIMIT)
unlimited = _whole("sticking", None)
