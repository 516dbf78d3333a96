"""What a fan-out may name its instances by: `key=` and `tags=`."""

import re
from types import EllipsisType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from orchestrator.errors import CompileError
from orchestrator.graph.node import FanOutNode, ItemReader
from orchestrator.state import State

MOST_TAGS = 32
RESERVED_TAGS = frozenset(
    (
        *("sequence", "run_id", "invocation_id", "correlation_id", "graph", "node", "node_path", "lineage", "fan_out"),
        *("index", "fan_out_index", "key", "tags", "state", "attempt", "attempt_index", "delivery", "delivery_attempt"),
        *("visit", "worker", "at", "duration_seconds", "error", "error_category", "error_type", "error_message"),
    )
)
"""What the columns of an instance's rows are called, here and on the command line; a tag would be taken for one."""

_NAME = re.compile(r"[\w.:-]{1,64}")


def check_naming(node: FanOutNode, outer_class: type[State]) -> None:
    """See that tags have names of their own, and that what is read off an item is there, where its type says.

    Raises:
        CompileError: the first rule that it breaks.
    """
    if len(node.tags) > MOST_TAGS:
        raise _refused(node, f"has {len(node.tags)} tags; keep the {MOST_TAGS} that people look for")
    for name in node.tags:
        if not _NAME.fullmatch(name):
            raise _refused(node, f"has a tag {name!r}; name it with up to 64 letters, digits and _ . : -")
        if name in RESERVED_TAGS:
            raise _refused(node, f"has a tag {name!r}, which every instance has already; give it another name")
    for what, reader in (("key", node.key), *((f"tag {name!r}", reader) for name, reader in node.tags.items())):
        if isinstance(reader, str):
            _check_field(node, outer_class, what, reader=reader)


def _check_field(node: FanOutNode, outer_class: type[State], what: str, *, reader: ItemReader) -> None:
    if node.items_field is None:
        raise _undeclared(node, f"{what} is read from the field {reader!r}, and an index has none; pass a function")
    item_class = _item_class(outer_class.model_fields[node.items_field].annotation)
    if item_class is not None and reader not in item_class.model_fields and not hasattr(item_class, str(reader)):
        there = ", ".join(item_class.model_fields) or "no fields"
        raise _undeclared(
            node, f"{what} is read from the field {reader!r}, which {item_class.__name__} does not have; it has {there}"
        )


def _item_class(annotation: Any) -> type[BaseModel] | None:
    """The model of a list's items; None where they are anything else."""
    arguments = [argument for argument in get_args(annotation) if not isinstance(argument, EllipsisType)]
    if len(arguments) != 1:
        return None
    (item,) = arguments
    if get_origin(item) is Annotated:
        item = get_args(item)[0]
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def _refused(node: FanOutNode, reason: str) -> CompileError:
    return CompileError("fan_out_tag_refused", f"fan-out {node.name!r} {reason}", node=node.name)


def _undeclared(node: FanOutNode, reason: str) -> CompileError:
    return CompileError("mapping_references_undeclared_field", f"fan-out {node.name!r}: its {reason}", node=node.name)
