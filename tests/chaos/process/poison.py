"""Numbers of which most kill the process that squares them, every time, and some are sound."""

import asyncio
import os
import signal
from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append
from tests.chaos.process.squares import CONCURRENCY, SECONDS, Number, bear_witness

SOUND_EVERY = 5


class Numbers(State):
    numbers: list[int] = []
    squares: Annotated[list[int], append] = []
    errors: list[dict[str, str]] = []


def is_sound(number: int) -> bool:
    return number % SOUND_EVERY == 0


async def square(state: Number) -> dict[str, Any]:
    bear_witness("began")
    if not is_sound(state.number):
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(SECONDS)
    bear_witness("stopped")
    return {"square": state.number**2}


one = GraphBuilder(Number).add_node("square", square).set_entry("square").add_edge("square", END).compile("poison_one")

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
    .set_entry("squares")
    .add_edge("squares", END)
    .compile("poison")
)
