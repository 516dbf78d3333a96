"""Customers with documents each: the outer fan-out is stepped by the orchestrator, the inner one is dispatched.

Every document leaves a line in the file that ROLLFORWARD_WITNESS names when it begins and when it ends.
"""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append


class Document(State):
    number: int = 0
    length: int = 0


class Customer(State):
    documents: list[int] = []
    lengths: Annotated[list[int], append] = []


class Customers(State):
    customers: list[list[int]] = []
    lengths: Annotated[list[list[int]], append] = []


def note(what: str) -> None:
    file = os.open(Path(os.environ["ROLLFORWARD_WITNESS"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{what} {os.getpid()}\n".encode())
    finally:
        os.close(file)


async def measure(document: Document) -> dict[str, Any]:
    note("1")
    await asyncio.sleep(0.005)
    note("-1")
    return {"length": document.number + 1}


document = GraphBuilder(Document).add_node("measure", measure).set_entry("measure").add_edge("measure", END).compile()
customer = (
    GraphBuilder(Customer)
    .add_fan_out_node(
        "documents",
        subgraph=document,
        items_field="documents",
        item_field="number",
        collect_field="length",
        target_field="lengths",
        concurrency="auto",
    )
    .set_entry("documents")
    .add_edge("documents", END)
    .compile()
)


def customers(name: str, **options: Any) -> Any:
    """The outer graph; `options` are its fan-out's."""
    return (
        GraphBuilder(Customers)
        .add_fan_out_node(
            "customers",
            subgraph=customer,
            items_field="customers",
            item_field="documents",
            collect_field="lengths",
            target_field="lengths",
            concurrency=None,
            **options,
        )
        .set_entry("customers")
        .add_edge("customers", END)
        .compile(name)
    )


dispatched = customers("dispatched", run_on="orchestrator")
inline = customers("inline")
