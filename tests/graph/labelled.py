"""Instances that log a line, and say in the metadata who they are."""

import logging
from typing import Annotated, Any

from rollforward import END, GraphBuilder, State, append, get_invocation_metadata, set_invocation_metadata

log = logging.getLogger(__name__)


class Piece(State):
    """One item."""

    name: str = ""
    held: dict[str, Any] = {}


class Whole(State):
    """All items, and what metadata each had."""

    names: list[str] = []
    held: Annotated[list[dict[str, Any]], append] = []
    after: dict[str, Any] = {}


def say(piece: Piece) -> dict[str, object]:
    """Log and write, in a thread."""
    set_invocation_metadata(name=piece.name)
    log.warning("said", extra={"index": "mine"} if piece.name == "own" else None)
    return {}


async def read(_piece: Piece) -> dict[str, object]:
    """Give what holds here."""
    return {"held": dict(get_invocation_metadata())}


async def after(_whole: Whole) -> dict[str, object]:
    """Give what holds behind the fan-out."""
    return {"after": dict(get_invocation_metadata())}


piece = (
    GraphBuilder(Piece)
    .add_node("say", say)
    .add_node("read", read)
    .set_entry("say")
    .add_edge("say", "read")
    .add_edge("read", END)
    .compile()
)

graph = (
    GraphBuilder(Whole)
    .add_fan_out_node(
        "pieces",
        subgraph=piece,
        items_field="names",
        item_field="name",
        collect_field="held",
        target_field="held",
        key=str,
    )
    .add_node("after", after)
    .set_entry("pieces")
    .add_edge("pieces", "after")
    .add_edge("after", END)
    .compile(name="labelled")
)
