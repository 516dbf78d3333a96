"""Numbers of which most kill the process that squares them, every time, and some are sound."""

import asyncio
import os
import signal
from typing import Any

from tests.chaos.process.squares import CONCURRENCY, SECONDS, bear_witness
from tests.graph.witnessed import Number, number_by, squares_of

SOUND_EVERY = 5


def is_sound(number: int) -> bool:
    return number % SOUND_EVERY == 0


async def square(state: Number) -> dict[str, Any]:
    bear_witness("began")
    if not is_sound(state.number):
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(SECONDS)
    bear_witness("stopped")
    return {"square": state.number**2}


graph = squares_of("poison", concurrency=CONCURRENCY, subgraph=number_by(square))
