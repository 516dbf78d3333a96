"""What fixtures say in a word of parallel branches."""

from typing import Any

from orchestrator.graph.node import ParallelBranchesNode
from orchestrator.observers.event import NodeEvent
from tests.conformance.excerpt import Check, completed, final
from tests.conformance.expectation import as_json, failure_isolated
from tests.conformance.invariant_of_isolation import degraded_is_merged
from tests.conformance.running import Played, Run


def _prior_is_kept(played: Played, run: Run, _: Any) -> bool:
    assert played.graph is not None
    before = as_json(run.nodes[0].pre_state)
    (event,) = failure_isolated(run)
    (node,) = [node for node in played.graph.nodes.values() if isinstance(node, ParallelBranchesNode)]
    (branch,) = node.branches.values()
    kept = [target for target, field in branch.outputs.items() if field not in event.post_state]
    return bool(kept) and all(final(run)[target] == before[target] for target in kept)


def _branches(played: Played) -> ParallelBranchesNode:
    assert played.graph is not None
    (node,) = [node for node in played.graph.nodes.values() if isinstance(node, ParallelBranchesNode)]
    return node


def _calls_only(played: Played, run: Run, _: Any) -> bool:
    branches = _branches(played).branches
    ran = {event.branch_name for event in completed(run) if event.branch_name}
    return all(branch.subgraph is None for branch in branches.values()) and ran == set(branches)


def _merged(played: Played, run: Run, _: Any) -> bool:
    after = {name: value for event in completed(run) if event.branch_name for name, value in _changed(event).items()}
    return bool(after) and all(final(run)[name] == value for name, value in after.items())


def _changed(event: NodeEvent) -> dict[str, Any]:
    before, after = as_json(event.pre_state), as_json(event.post_state) or {}
    return {name: value for name, value in after.items() if before.get(name) != value}


def _conditional(*, runs: bool) -> Check:
    def check(played: Played, run: Run, _: Any) -> bool:
        names = [name for name, branch in _branches(played).branches.items() if branch.when is not None]
        ran = {event.branch_name for event in run.nodes}
        return bool(names) and all((name in ran) is runs for name in names)

    return check


def _no_contribution(played: Played, run: Run, _: Any) -> bool:
    skipped = [name for name, branch in _branches(played).branches.items() if branch.when is not None]
    before = as_json(run.nodes[0].pre_state)
    ran = {name for event in completed(run) if event.branch_name for name in _changed(event)}
    return bool(skipped) and all(final(run)[name] == value for name, value in before.items() if name not in ran)


def _isolated_branch(played: Played, run: Run, _: Any) -> bool:
    (event,) = failure_isolated(run)
    return event.branch_name in _branches(played).branches and degraded_is_merged(played, run, _)


def _sibling_completed(played: Played, run: Run, _: Any) -> bool:
    (event,) = failure_isolated(run)
    done = {one.branch_name for one in completed(run) if one.error is None and one.branch_name}
    return done == set(_branches(played).branches) - {event.branch_name}


OF_BRANCH: dict[str, Check] = {
    "uncovered_projected_field_skipped": _prior_is_kept,
    "parent_keeps_prior_value": _prior_is_kept,
    "callable_branches_run_without_subgraph": _calls_only,
    "contributions_merge_via_parent_reducer": _merged,
    "when_false_branch_skipped": _conditional(runs=False),
    "skipped_branch_no_contribution": _no_contribution,
    "skipped_branch_emits_no_event": _conditional(runs=False),
    "when_true_branch_dispatches": _conditional(runs=True),
    "callable_branch_failure_isolated_and_degraded": _isolated_branch,
    "sibling_branch_completed": _sibling_completed,
}
