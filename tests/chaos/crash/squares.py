"""Fan-outs whose executions can be held in their middle.

Those of `graph` come one after the other, so that an instance's number is that of its arrival; those of `batch` come
at once.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from rollforward import current_fan_out_index
from tests.chaos.crash.hold import take_hold
from tests.graph.witnessed import Number, bear_witness, number_by, squared, squares_of


async def square(state: Number) -> dict[str, Any]:
    index = current_fan_out_index()
    assert index is not None
    bear_witness(index)
    hold = take_hold(Path(os.environ["ROLLFORWARD_WITNESS"]).parent, index)
    while hold is not None and hold.exists():  # noqa: ASYNC110 - another process removes it, and tells nobody
        await asyncio.sleep(0.02)
    return squared(state.number)


graph = squares_of("crashed", concurrency=1, subgraph=number_by(square))
batch = squares_of("crashed_batch", concurrency=8, subgraph=number_by(square))
