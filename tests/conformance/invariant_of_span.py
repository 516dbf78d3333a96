"""What fixtures say in a word of single spans: attempts, instances, branches, and what is under what."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.conformance.excerpt import Check
from tests.conformance.running import Played, Run
from tests.conformance.span_forest import INVOCATION, Tree


def _attempts(run: Run) -> list[Tree]:
    """The spans under the invocation's, where all are of one node."""
    found = run.forest.roots[0].children
    return found if len({tree.name for tree in found}) == 1 else []


def _indices(trees: Sequence[Tree]) -> list[int]:
    return [tree.index for tree in trees if tree.is_instance]


def _unique_under(_played: Played, run: Run, expected: str) -> Any:
    """The name, where there are instances under every span of a fan-out of that name, and none twice."""
    forks = [tree for tree in run.forest.named(expected) if tree.is_fan_out]
    found = [_indices(fork.children) for fork in forks]
    is_so = bool(found) and all(len(set(indices)) == len(indices) > 0 for indices in found)
    return expected if is_so else f"no {expected}, or an index twice"


def _index_range(_played: Played, run: Run, _: Any) -> Any:
    """The first and the last index of every fan-out that has no other inside, where none between is missing."""
    forks = [tree for tree in run.forest.all if tree.is_fan_out and not _has_inner(tree)]
    ranges = [sorted(_indices(fork.children)) for fork in forks]
    found = {(indices[0], indices[-1]) for indices in ranges if indices == list(range(len(indices)))}
    return list(found.pop()) if len(found) == 1 and all(ranges) else ranges


def _has_inner(fork: Tree) -> bool:
    return any(tree.is_fan_out for child in fork.children for tree in child.walk())


def _nothing_dropped(_played: Played, run: Run, _: Any) -> bool:
    forks = [tree for tree in run.forest.all if tree.is_fan_out]
    inner = [fork for fork in forks if not _has_inner(fork)]
    return len(inner) > 1 and all(len(_indices(fork.children)) == fork.of("fan_out.item_count") for fork in forks)


def calls(run: Run) -> list[Tree]:
    return [tree for tree in run.forest.all if tree.is_llm]


def _each_call(is_so: Callable[[Run, Tree, Tree], bool]) -> Check:
    """Whether something is so of every call and the span that it is under, and there are calls."""

    def check(_played: Played, run: Run, _: Any) -> bool:
        under = [(call, run.forest.parent(call)) for call in calls(run)]
        return bool(under) and all(parent is not None and is_so(run, call, parent) for call, parent in under)

    return check


def _one_call(tree: Tree) -> bool:
    return sum(child.is_llm for child in tree.children) == 1


def _has_own_call(run: Run, _call: Tree, parent: Tree) -> bool:
    """The span of the node that calls is there once for each call, and in the instance that made it."""
    around = next(run.forest.around(parent))
    return parent.is_function and _one_call(parent) and around.is_instance and parent.index == around.index


def _is_inside_instance(run: Run, tree: Tree) -> bool:
    return any(one.is_instance for one in run.forest.around(tree))


def _has_node_beside(_run: Run, call: Tree, parent: Tree) -> bool:
    beside = [tree for tree in parent.children if tree is not call]
    return any(tree.is_function and not any(child.is_llm for child in tree.children) for tree in beside)


def _in_own_branch(_played: Played, run: Run, _: Any) -> bool:
    branches = [tree for tree in run.forest.all if tree.is_branch]
    are_named = all(call.branch == branch.name for branch in branches for call in branch.children if call.is_llm)
    return len(branches) > 1 and are_named and all(_one_call(branch) for branch in branches)


def _innermost(run: Run, _call: Tree, parent: Tree) -> bool:
    return parent.is_instance and any(tree.is_branch for tree in run.forest.around(parent))


def _is_default_call(_played: Played, run: Run, _: Any) -> bool:
    (call,) = calls(run)
    names = ("model", "finish_reason", "usage.prompt_tokens", "usage.total_tokens")
    return call.of("llm.attempt_index") == 0 and all(call.of(f"llm.{name}") is not None for name in names)


def _branch_spans(run: Run) -> list[Tree]:
    """Those of the outermost parallel branches, in the order in which they ended as the collector was told."""
    return [tree for tree in run.forest.all if tree.is_branch and not _is_inside_branch(run, tree)]


def _is_inside_branch(run: Run, tree: Tree) -> bool:
    return any(one.is_branch for one in run.forest.around(tree))


def _told_apart(_played: Played, run: Run, _: Any) -> bool:
    inner = [tree for tree in run.forest.all if tree.is_function]
    parents = [run.forest.parent(tree) for tree in inner]
    is_under_branch = all(
        parent is not None and parent.is_branch and parent.name == tree.branch
        for tree, parent in zip(inner, parents, strict=True)
    )
    return len({tree.name for tree in inner}) == 1 < len(inner) == len(set(map(id, parents))) and is_under_branch


def _close_before(_played: Played, run: Run, _: Any) -> bool:
    found = [(tree, run.forest.parent(tree)) for tree in _branch_spans(run)]
    order = run.forest.arrival
    return bool(found) and all(
        parent is not None and tree.span.end <= parent.span.end and order.index(tree) < order.index(parent)
        for tree, parent in found
    )


def _closing_order(_played: Played, run: Run, _: Any) -> list[str]:
    branches = _branch_spans(run)
    return [tree.name for tree in run.forest.arrival if tree in branches]


def _call_branches(played: Played, run: Run, _: Any) -> bool:
    return _names(run) == _dispatched(played, run) and all(tree.branch == tree.name for tree in _branch_spans(run))


def _names(run: Run) -> list[str]:
    return [tree.name for tree in _branch_spans(run)]


def _declared(played: Played) -> dict[str, Any]:
    (node,) = [node for node in played.case.values["nodes"].values() if "parallel_branches" in node]
    branches: dict[str, Any] = node["parallel_branches"]["branches"]
    return branches


def _dispatched(played: Played, run: Run) -> list[str]:
    """The branches whose condition held, if they had one."""
    before = run.nodes[0].pre_state
    return [
        name
        for name, branch in _declared(played).items()
        if "when" not in branch or getattr(before, branch["when"]["field"])
    ]


def _no_skipped(played: Played, run: Run, _: Any) -> bool:
    skipped = set(_declared(played)) - set(_dispatched(played, run))
    return bool(skipped) and not skipped & {tree.name for tree in run.forest.all}


def _dispatched_count(played: Played, run: Run, _: Any) -> bool:
    (fork,) = [tree for tree in run.forest.all if tree.is_fork]
    count = fork.of("parallel_branches.branch_count")
    return bool(count == len(_dispatched(played, run)) < len(_declared(played)))


def _retried(run: Run) -> list[Tree]:
    """The branches of the last attempt."""
    last = [tree for tree in run.forest.all if tree.is_fork][-1]
    return [tree for tree in last.children if tree.is_branch]


def _all_of_attempt(index: int) -> Check:
    def check(_played: Played, run: Run, _: Any) -> bool:
        found = _retried(run)
        return bool(found) and all(tree.of("node.attempt_index") == index for tree in found)

    return check


def _attempt_of_node(_played: Played, run: Run, _: Any) -> bool:
    found = [(tree, run.forest.parent(tree)) for tree in run.forest.all if tree.is_branch]
    indices = {tree.of("node.attempt_index") for tree, _ in found}
    return len(indices) > 1 and all(
        parent is not None and parent.of("node.attempt_index") == tree.of("node.attempt_index")
        for tree, parent in found
    )


OF_SPAN: dict[str, Check] = {
    "sibling_attempt_count_under_invocation": lambda _p, run, _: len(_attempts(run)),
    "attempt_indices": lambda _p, run, _: [tree.of("node.attempt_index") for tree in _attempts(run)],
    "all_attempt_spans_error": lambda _p, run, _: (
        bool(_attempts(run)) and all(tree.span.status == "ERROR" for tree in _attempts(run))
    ),
    "unique_fan_out_indices_under": _unique_under,
    "unique_fan_out_indices_per_node_span_under": _unique_under,
    "fan_out_index_range": _index_range,
    "no_inner_spans_dropped_under_concurrent_nesting": _nothing_dropped,
    "inner_node_span_count": lambda _p, run, _: sum(
        tree.is_function and _is_inside_instance(run, tree) for tree in run.forest.all
    ),
    "llm_provider_span_count": lambda _p, run, _: len(calls(run)),
    "exactly_one_llm_span_when_retry_absent": lambda _p, run, _: len(calls(run)) == 1,
    "attempt_index_defaults_to_zero": lambda _p, run, _: [call.of("llm.attempt_index") for call in calls(run)] == [0],
    "baseline_attributes_still_emit_alongside_attempt_index": _is_default_call,
    "llm_span_parents_under_own_lineage_calling_node": _each_call(_has_own_call),
    "orphan_llm_span_parents_under_inner_fan_out_instance": _each_call(
        lambda run, _c, parent: parent.is_instance and _is_inside_instance(run, parent)
    ),
    "orphan_llm_span_not_under_coincidentally_indexed_sibling": _each_call(
        lambda _r, _c, parent: parent.is_instance and _one_call(parent)
    ),
    "orphan_llm_span_not_under_fan_out_node_or_invocation": _each_call(
        lambda _r, _c, parent: not parent.is_fork and parent.name != INVOCATION
    ),
    "orphan_llm_span_not_under_dispatcher_node_or_invocation": _each_call(
        lambda _r, _c, parent: not parent.is_fork and parent.name != INVOCATION
    ),
    "orphan_llm_span_not_under_node_or_invocation": _each_call(
        lambda _r, _c, parent: not (parent.is_fork or parent.is_function) and parent.name != INVOCATION
    ),
    "orphan_llm_span_sibling_of_calling_node_span": _each_call(_has_node_beside),
    "orphan_llm_span_sibling_of_guard_node_span": _each_call(_has_node_beside),
    "orphan_llm_span_parents_under_branch_dispatch_span": _each_call(lambda _r, _c, parent: parent.is_branch),
    "orphan_llm_span_routed_to_correct_branch_by_name": _in_own_branch,
    "orphan_llm_span_parents_under_innermost_fan_out_instance": _each_call(_innermost),
    "orphan_llm_span_not_under_work_branch_dispatch_span": _each_call(lambda _r, _c, parent: not parent.is_branch),
    "same_named_inner_spans_disambiguated_by_dispatch_parent": _told_apart,
    "dispatch_spans_close_before_node_span": _close_before,
    "dispatch_spans_close_in_declaration_order": _closing_order,
    "callable_branch_renders_one_span_keyed_by_branch_name": _call_branches,
    "callable_branch_span_has_no_inner_node_spans": lambda _p, run, _: (
        bool(_branch_spans(run)) and not any(tree.children for tree in _branch_spans(run))
    ),
    "when_skipped_branch_emits_no_span": _no_skipped,
    "branch_count_is_dispatched_count_not_declared": _dispatched_count,
    "sibling_parallel_branches_node_spans_per_attempt": lambda _p, run, _: sum(
        tree.is_fork for tree in run.forest.roots[0].children
    ),
    "retry_callable_branch_dispatch_span_attempt_index_is_one": _all_of_attempt(1),
    "callable_branch_attempt_index_sourced_from_node_event_not_zero": _attempt_of_node,
}
