"""A pipeline with a durable step for each item; every execution of one leaves a line as in `witnessed`.

The durable step of an item leaves the item's number, the one after it a hundred more.
"""

import asyncio
from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append
from tests.graph.witnessed import SECONDS, bear_witness


class Item(State):
    number: int = 0
    fetched: int = 0
    stored: int = 0


class Items(State):
    numbers: list[int] = []
    stored: Annotated[list[int], append] = []


async def fetch(item: Item) -> dict[str, Any]:
    bear_witness(item.number)
    return {"fetched": item.number * 2}


async def store(item: Item) -> dict[str, Any]:
    bear_witness(100 + item.number)
    await asyncio.sleep(SECONDS)
    return {"stored": item.fetched + 1}


item = (
    GraphBuilder(Item)
    .add_node("fetch", fetch, durable=True)
    .add_node("store", store)
    .set_entry("fetch")
    .add_edge("fetch", "store")
    .add_edge("store", END)
    .compile("item")
)

graph = (
    GraphBuilder(Items)
    .add_fan_out_node(
        "items",
        subgraph=item,
        items_field="numbers",
        item_field="number",
        collect_field="stored",
        target_field="stored",
    )
    .set_entry("items")
    .add_edge("items", END)
    .compile("durable-witnessed")
)
