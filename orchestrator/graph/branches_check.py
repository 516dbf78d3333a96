"""What a node of parallel branches must declare to compile."""

from orchestrator.errors import CompileError
from orchestrator.graph.node import BranchSpec, ParallelBranchesNode
from orchestrator.graph.projection import check_declared
from orchestrator.state import State


def check_branches(node: ParallelBranchesNode, outer_class: type[State]) -> None:
    """See that there are branches, that each is one thing, and that the fields they carry exist.

    Raises:
        CompileError: the first rule that it breaks.
    """
    if not node.branches:
        raise CompileError(
            "parallel_branches_no_branches", f"node {node.name!r} has no branches; add one", node=node.name
        )
    for name, branch in node.branches.items():
        _check_branch(node.name, name, branch, outer_class=outer_class)
    if node.errors_field is not None:
        check_declared(outer_class, [node.errors_field], node=node.name)


def _check_branch(node: str, name: str, branch: BranchSpec, *, outer_class: type[State]) -> None:
    where = f"branch {name!r} of node {node!r}"
    if (branch.subgraph is None) == (branch.call is None):
        raise CompileError(
            "parallel_branches_invalid_branch_spec",
            f"{where} needs a subgraph or a call, and one of them only",
            node=node,
        )
    if branch.subgraph is None:
        if branch.inputs or branch.outputs:
            raise CompileError(
                "parallel_branches_invalid_branch_spec",
                f"{where} is a call, which reads and gives fields of the outer state; drop its inputs and outputs",
                node=node,
            )
        return
    check_declared(outer_class, [*branch.inputs.values(), *branch.outputs], node=node)
    check_declared(branch.subgraph.state_class, [*branch.inputs, *branch.outputs.values()], node=node)
