"""A graph whose observer writes a line for every event to the file that ROLLFORWARD_OVERHEARD names.

An instance goes on after its first node when a test lets it: it touches `go-<run>-<index>` beside the witness file.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

from orchestrator.observers.event import Event, InstanceEvent, InvocationEvent, NodeEvent, Phase
from rollforward import END, GraphBuilder, State, append, current_fan_out_index, current_run_id
from tests.graph.witnessed import bear_witness, write_line


class Number(State):
    number: int = 0
    square: int = 0


class Numbers(State):
    numbers: list[int] = []
    squares: Annotated[list[int], append] = []


async def begin(_state: Number) -> dict[str, Any]:
    bear_witness(current_fan_out_index())
    return {}


async def finish(state: Number) -> dict[str, Any]:
    go = Path(os.environ["ROLLFORWARD_WITNESS"]).parent / f"go-{current_run_id()}-{current_fan_out_index()}"
    while not go.exists():  # noqa: ASYNC110 - another process makes it, and tells nobody
        await asyncio.sleep(0.02)
    return {"square": state.number**2}


async def write_down(event: Event) -> None:
    """Write who was told what: the invocation, the kind, the place, the instance and the attempt."""
    match event:
        case NodeEvent():
            kind = event.phase.value
        case InstanceEvent():
            kind = f"{event.state} {event.delivery}"
        case InvocationEvent():
            kind = f"invocation {event.state}"
        case _:
            kind = type(event).__name__
    told = [event.invocation_id, kind, "/".join(event.namespace), event.fan_out_index, event.attempt_index]
    write_line(json.dumps(told), "ROLLFORWARD_OVERHEARD")


number = (
    GraphBuilder(Number)
    .add_node("begin", begin)
    .add_node("finish", finish)
    .set_entry("begin")
    .add_edge("begin", "finish")
    .add_edge("finish", END)
    .compile("overheard_number")
)

graph = (
    GraphBuilder(Numbers)
    .add_fan_out_node(
        "squares",
        subgraph=number,
        items_field="numbers",
        item_field="number",
        collect_field="square",
        target_field="squares",
        concurrency=2,
    )
    .set_entry("squares")
    .add_edge("squares", END)
    .compile("overheard")
)
graph.attach_observer(write_down, phases=tuple(Phase))
