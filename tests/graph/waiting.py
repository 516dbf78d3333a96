"""Instances that a test lets end: what two graphs have in common."""

import asyncio
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from rollforward import State, append

POLL_SECONDS = 0.01


class Piece(State):
    """One item: `act` is what to do, `folder` a place to leave notes in."""

    act: str = "double"
    number: int = 0
    folder: str = ""
    result: str = ""


class Whole(State):
    """All items, and what came of them."""

    numbers: list[int] = []
    act: str = "double"
    folder: str = ""
    results: Annotated[list[str], append] = []


def note(piece: Piece) -> Callable[[], bool]:
    """Leave a note with the pid; whether the file `go` is there is what the answer tells."""
    folder = Path(piece.folder)
    (folder / f"started-{piece.number}-{os.getpid()}").touch()
    return (folder / "go").exists


async def until_told(piece: Piece) -> None:
    """Leave a note, and wait for the file `go`; a second delivery finds it there."""
    is_told = note(piece)
    for _ in itertools.takewhile(lambda _: not is_told(), itertools.count()):
        await asyncio.sleep(POLL_SECONDS)
