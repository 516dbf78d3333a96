"""A graph whose every execution leaves a line in the file that ROLLFORWARD_WITNESS names, before it does its work."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from rollforward import END, CompiledGraph, GraphBuilder, State, append, current_fan_out_index

SECONDS = float(os.environ.get("WITNESS_SECONDS", "0.15"))


class Number(State):
    number: int = 0
    square: int = 0


class Numbers(State):
    numbers: list[int] = []
    squares: Annotated[list[int], append] = []
    errors: list[dict[str, str]] = []
    total: int = 0


def bear_witness(index: int | None) -> None:
    write_line(f"{index} {os.getpid()}")


def write_line(line: str, variable: str = "ROLLFORWARD_WITNESS") -> None:
    """Append a line to the file that a variable names, whole, whoever else does so at the same time."""
    file = os.open(Path(os.environ[variable]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


async def square(state: Number) -> dict[str, Any]:
    bear_witness(current_fan_out_index())
    await asyncio.sleep(SECONDS)
    return squared(state.number)


def is_failing(number: int) -> bool:
    return number % 10 == 3


def squared(number: int) -> dict[str, Any]:
    if is_failing(number):
        raise ValueError(f"{number} ends with a three")
    return {"square": number**2}


async def total(state: Numbers) -> dict[str, Any]:
    return {"total": sum(state.squares)}


def number_by(work: Callable[[Number], Awaitable[dict[str, Any]]]) -> CompiledGraph[Number]:
    """The graph of one number."""
    return GraphBuilder(Number).add_node("square", work).set_entry("square").add_edge("square", END).compile("one")


number = number_by(square)


def squares_of(name: str, *, concurrency: int, subgraph: CompiledGraph[Number] = number) -> CompiledGraph[Numbers]:
    """The squares of numbers, and their total; what fails is collected."""
    return (
        GraphBuilder(Numbers)
        .add_fan_out_node(
            "squares",
            subgraph=subgraph,
            items_field="numbers",
            item_field="number",
            collect_field="square",
            target_field="squares",
            errors_field="errors",
            error_policy="collect",
            key=str,
            concurrency=concurrency,
        )
        .add_node("total", total)
        .set_entry("squares")
        .add_edge("squares", "total")
        .add_edge("total", END)
        .compile(name)
    )


graph = squares_of("witnessed", concurrency=8)
