"""Squares of numbers; every execution says in the file of ROLLFORWARD_WITNESS when it began and when it stopped.

A line holds: what, run, index, pid, token, and the seconds of a clock that all processes of this machine share.
"""

import asyncio
import os
import time
from typing import Any

from rollforward import current_fan_out_index, current_run_id, token
from tests.graph.witnessed import Number, number_by, squared, squares_of, write_line

SECONDS = float(os.environ.get("CHAOS_SECONDS", "2"))
CONCURRENCY = int(os.environ.get("CHAOS_CONCURRENCY", "2"))


def bear_witness(what: str) -> None:
    write_line(f"{what} {current_run_id()} {current_fan_out_index()} {os.getpid()} {token()} {time.monotonic():.6f}")


async def square(state: Number) -> dict[str, Any]:
    bear_witness("began")
    try:
        await asyncio.sleep(SECONDS)
    finally:
        bear_witness("stopped")
    return squared(state.number)


graph = squares_of("chaos", concurrency=CONCURRENCY, subgraph=number_by(square))
