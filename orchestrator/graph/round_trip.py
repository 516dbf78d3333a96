"""Where values go into a subgraph and come back into the field they were read from."""

from collections.abc import Iterator, Mapping

from orchestrator.graph.node import FanOutNode, FunctionNode, Node, ParallelBranchesNode
from orchestrator.graph.warning import CompileWarning
from orchestrator.state import State, reducers_of


def doubts(node: Node, outer_class: type[State]) -> Iterator[CompileWarning]:
    """What is doubtful about what a node carries in and out."""
    if isinstance(node, FunctionNode):
        return
    if isinstance(node, ParallelBranchesNode):
        for branch in node.branches.values():
            yield from _round_trips(node.name, outer_class, branch.inputs, carried_out=branch.outputs)
        return
    if isinstance(node, FanOutNode):
        yield from _lost_items(node)
        carried_in, carried_out = _fan_out(node)
    else:
        carried_in = node.projection.carried_in()
        carried_out = node.projection.carried_out(outer_class, node.graph.state_class)
    yield from _round_trips(node.name, outer_class, carried_in, carried_out=carried_out)


def _fan_out(node: FanOutNode) -> tuple[Mapping[str, str], Mapping[str, str]]:
    items = {node.item_field: node.items_field} if node.item_field and node.items_field else {}
    return {**node.inputs, **items}, {**node.extra_outputs, node.target_field: node.collect_field}


def _round_trips(
    node: str, outer_class: type[State], carried_in: Mapping[str, str], *, carried_out: Mapping[str, str]
) -> Iterator[CompileWarning]:
    reducers = reducers_of(outer_class)
    for target, name in carried_out.items():
        if carried_in.get(name) == target and reducers[target].is_round_trip_idempotent is False:
            yield CompileWarning(
                "projection_reducer_round_trip",
                f"node {node!r} carries field {target!r} into its subgraph and back, where {reducers[target].name} "
                "merges it a second time; use another subgraph field for what comes back",
                node=node,
            )


def _lost_items(node: FanOutNode) -> Iterator[CompileWarning]:
    declared = node.subgraph.state_class.model_fields
    if node.items_field is not None and node.item_field not in declared:
        yield CompileWarning(
            "fan_out_item_field_undeclared",
            f"the instances of fan-out {node.name!r} do not get their item: item_field is {node.item_field!r}, and "
            f"the subgraph's state has {', '.join(declared)}",
            node=node.name,
        )
