"""What a fan-out node must declare to compile."""

from collections.abc import Mapping, Sequence
from typing import Any, get_origin

from orchestrator.errors import CompileError
from orchestrator.graph.naming_check import check_naming
from orchestrator.graph.node import FanOutNode
from orchestrator.graph.projection import check_declared
from orchestrator.state import State


def check_fan_out(node: FanOutNode, outer_class: type[State]) -> None:
    """See that a fan-out's fields exist and that its items can be counted.

    An `item_field` that the subgraph does not declare compiles: its instances do not get their item.

    Raises:
        CompileError: the first rule that it breaks.
    """
    if (node.items_field is None) == (node.count is None):
        raise CompileError(
            "fan_out_count_mode_ambiguous",
            f"fan-out {node.name!r} needs items_field or count, and one of them only",
            node=node.name,
        )
    check_declared(outer_class, _outer_fields(node), node=node.name)
    check_declared(node.subgraph.state_class, [*node.contributed_fields, *node.inputs], node=node.name)
    _check_items(node, outer_class)
    check_naming(node, outer_class)
    _check_degraded(node)


def _outer_fields(node: FanOutNode) -> list[str]:
    optional = (node.items_field, node.count_field, node.errors_field)
    named = [name for name in optional if name is not None]
    return [node.target_field, *named, *node.inputs.values(), *node.extra_outputs]


def _check_items(node: FanOutNode, outer_class: type[State]) -> None:
    if node.items_field is None:
        return
    annotation = outer_class.model_fields[node.items_field].annotation
    if not _is_list(annotation):
        raise CompileError(
            "fan_out_field_not_list",
            f"fan-out {node.name!r} takes its items from {node.items_field!r}, which is declared as {annotation}; "
            "declare it as a list",
            node=node.name,
        )


def _is_list(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, str | bytes)


def _check_degraded(node: FanOutNode) -> None:
    for middleware in node.instance_middleware:
        update = getattr(middleware, "degraded_update", None)
        if isinstance(update, Mapping) and node.collect_field not in update:
            raise CompileError(
                "fan_out_degraded_update_missing_collect_field",
                f"fan-out {node.name!r} collects {node.collect_field!r}, and the degraded update of its instance "
                "middleware does not give it; add it",
                node=node.name,
            )
