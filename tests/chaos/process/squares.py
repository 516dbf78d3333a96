"""Squares of numbers; every execution says in the file of ROLLFORWARD_WITNESS when it began and when it stopped.

A line holds: what, run, index, pid, token, and the seconds of a clock that all processes of this machine share.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append, current_fan_out_index, current_run_id, token

SECONDS = float(os.environ.get("CHAOS_SECONDS", "2"))
CONCURRENCY = int(os.environ.get("CHAOS_CONCURRENCY", "2"))


class Number(State):
    number: int = 0
    square: int = 0


class Numbers(State):
    numbers: list[int] = []
    squares: Annotated[list[int], append] = []
    errors: list[dict[str, str]] = []
    total: int = 0


def is_failing(number: int) -> bool:
    return number % 10 == 3


def bear_witness(what: str) -> None:
    line = f"{what} {current_run_id()} {current_fan_out_index()} {os.getpid()} {token()} {time.monotonic():.6f}\n"
    file = os.open(Path(os.environ["ROLLFORWARD_WITNESS"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


async def square(state: Number) -> dict[str, Any]:
    bear_witness("began")
    try:
        await asyncio.sleep(SECONDS)
    finally:
        bear_witness("stopped")
    if is_failing(state.number):
        raise ValueError(f"{state.number} ends with a three")
    return {"square": state.number**2}


async def total(state: Numbers) -> dict[str, Any]:
    return {"total": sum(state.squares)}


one = GraphBuilder(Number).add_node("square", square).set_entry("square").add_edge("square", END).compile("one")

graph = (
    GraphBuilder(Numbers)
    .add_fan_out_node(
        "squares",
        subgraph=one,
        items_field="numbers",
        item_field="number",
        collect_field="square",
        target_field="squares",
        errors_field="errors",
        error_policy="collect",
        concurrency=CONCURRENCY,
    )
    .add_node("total", total)
    .set_entry("squares")
    .add_edge("squares", "total")
    .add_edge("total", END)
    .compile("chaos")
)
