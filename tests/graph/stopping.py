"""A fan-out whose first instance fails once the two beside it run; each says in ROLLFORWARD_WITNESS what became of it.

Once the file of that name with `.mended` at its end is there, nothing fails and nobody waits.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append, is_cancelled

WITNESS = Path(os.environ.get("ROLLFORWARD_WITNESS", "witness"))


class One(State):
    number: int = 0
    out: int = 0


class All(State):
    numbers: list[int] = []
    results: Annotated[list[int], append] = []


def note(what: str) -> None:
    with WITNESS.open("a") as file:
        file.write(f"{what} {time.time()}\n")


def has_said(what: str) -> bool:
    return WITNESS.exists() and any(line.startswith(what) for line in WITNESS.read_text().splitlines())


def is_mended() -> bool:
    return Path(f"{WITNESS}.mended").exists()


async def fail_or_wait(one: One) -> dict[str, Any]:
    note(f"began-{one.number}")
    if not is_mended():
        if one.number == 1:
            await _fail_when_others_run()
        if one.number == 2:
            await _wait()
    return {}


async def _fail_when_others_run() -> None:
    while not (has_said("began-2") and has_said("looping-3")):  # noqa: ASYNC110 - other processes say it
        await asyncio.sleep(0.01)
    note("failed-1")
    raise ValueError("as planned")


async def _wait() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled-2")
        raise


def loop(one: One) -> dict[str, Any]:
    if one.number == 3 and not is_mended():
        note("looping-3")
        while not is_cancelled():
            time.sleep(0.01)
        note("told-3")
    return {"out": one.number * 10}


one = (
    GraphBuilder(One)
    .add_node("first", fail_or_wait)
    .add_node("plain", loop)
    .set_entry("first")
    .add_edge("first", "plain")
    .add_edge("plain", END)
    .compile()
)
graph = (
    GraphBuilder(All)
    .add_fan_out_node(
        "all",
        subgraph=one,
        items_field="numbers",
        item_field="number",
        collect_field="out",
        target_field="results",
        concurrency=3,
    )
    .set_entry("all")
    .add_edge("all", END)
    .compile("stopping")
)
