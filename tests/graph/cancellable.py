"""Instances that are stopped in the middle of their work: `act` is how each takes it.

Each leaves lines in the file `notes` of its folder: what it did, its place (the indexes of its lineage), and when.
Where the file `mended` is in the folder, every instance ends at once.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from rollforward import END, GraphBuilder, State, append, current_lineage, is_cancelled

POLL_SECONDS = 0.01
NAP_SECONDS = 0.03

Act = Literal["end", "nap", "wait", "loop", "fail", "ignore", "block"]
"""End at once or after a nap; wait for the cancellation, async or plain; fail once the file `fail` is there; end once
the file `go` is there in spite of a cancellation, async or plain."""
ACTS = get_args(Act)


class Piece(State):
    """One instance."""

    act: Act = "end"
    folder: str = ""
    out: str = ""


class Row(State):
    """Several, in one."""

    acts: list[Act] = []
    folder: str = ""
    outs: Annotated[list[str], append] = []


class Rows(State):
    """Rows of them."""

    rows: list[list[Act]] = []
    folder: str = ""
    outs: Annotated[list[list[str]], append] = []


def place() -> str:
    """Where this is, as in 2.0: the first instance inside the third."""
    return ".".join(str(step.index) for step in current_lineage())


def note(piece: Piece, what: str) -> None:
    file = os.open(Path(piece.folder) / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{what} {place()} {time.time()}\n".encode())
    finally:
        os.close(file)


def is_there(piece: Piece, name: str) -> bool:
    return (Path(piece.folder) / name).exists()


async def begin(piece: Piece) -> dict[str, Any]:
    """Say so, and do what is async; a cancellation is said as well."""
    note(piece, "began")
    try:
        await _act(piece)
    except asyncio.CancelledError:
        note(piece, "cancelled")
        raise
    return {}


async def _act(piece: Piece) -> None:
    if is_there(piece, "mended"):
        return
    match piece.act:
        case "nap":
            await asyncio.sleep(NAP_SECONDS)
        case "wait":
            note(piece, "waiting")
            await asyncio.Event().wait()
        case "fail":
            note(piece, "waiting")
            await _until(piece, "fail")
            note(piece, "failed")
            raise ValueError("as planned")
        case "ignore":
            await _although_cancelled(piece)


async def _although_cancelled(piece: Piece) -> None:
    try:
        note(piece, "waiting")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(piece, "ignored")
    await _until(piece, "go")


async def _until(piece: Piece, name: str) -> None:
    while not is_there(piece, name):  # noqa: ASYNC110 - another process says it
        await asyncio.sleep(POLL_SECONDS)


def end(piece: Piece) -> dict[str, Any]:
    """Do what is plain, and say that it is done."""
    if not is_there(piece, "mended"):
        match piece.act:
            case "loop":
                note(piece, "waiting")
                while not is_cancelled():
                    time.sleep(POLL_SECONDS)
                note(piece, "told")
            case "block":
                note(piece, "waiting")
                while not is_there(piece, "go"):
                    time.sleep(POLL_SECONDS)
    note(piece, "ended")
    return {"out": piece.act}


piece = (
    GraphBuilder(Piece)
    .add_node("begin", begin)
    .add_node("end", end)
    .set_entry("begin")
    .add_edge("begin", "end")
    .add_edge("end", END)
    .compile()
)


def row(name: str, concurrency: int | None) -> Any:
    """A fan-out of pieces."""
    return (
        GraphBuilder(Row)
        .add_fan_out_node(
            "pieces",
            subgraph=piece,
            items_field="acts",
            item_field="act",
            inputs={"folder": "folder"},
            collect_field="out",
            target_field="outs",
            concurrency=concurrency,
        )
        .set_entry("pieces")
        .add_edge("pieces", END)
        .compile(name)
    )


def rows(name: str, inner: Any, **options: Any) -> Any:
    """A fan-out of rows; `options` are its node's."""
    return (
        GraphBuilder(Rows)
        .add_fan_out_node(
            "rows",
            subgraph=inner,
            items_field="rows",
            item_field="acts",
            inputs={"folder": "folder"},
            collect_field="outs",
            target_field="outs",
            concurrency=None,
            **options,
        )
        .set_entry("rows")
        .add_edge("rows", END)
        .compile(name)
    )


INLINE_AT_ONCE = 2

flat = row("cancellable-flat", None)
inline = rows("cancellable-inline", row("cancellable-inner", INLINE_AT_ONCE))
dispatched = rows("cancellable-dispatched", flat, run_on="orchestrator")
