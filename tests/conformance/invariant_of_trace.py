"""What fixtures say in a word of whole traces: their ids, the correlation id, links and failures."""

from collections.abc import Sequence
from typing import Any

from tests.conformance.excerpt import Check
from tests.conformance.expectation import is_uuid4
from tests.conformance.running import Played, Run
from tests.conformance.span_forest import IMPLEMENTATION, INVOCATION, THEIRS, Tree


def single(values: Sequence[Any]) -> Any:
    """The one value that all have, or the list of those that there are."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else found


def correlation_ids(run: Run) -> Any:
    return single([tree.of("correlation_id") for tree in run.forest.all])


def invocations(run: Run) -> list[Tree]:
    return run.forest.named(INVOCATION)


def _each_is_uniform(played: Played, _run: Run, _: Any) -> bool:
    return all(isinstance(correlation_ids(run), str) for run in played.runs)


def _ids_differ(played: Played, _run: Run, _: Any) -> bool:
    return len({str(correlation_ids(run)) for run in played.runs}) == len(played.runs) > 1


def _across_traces(_played: Played, run: Run, _: Any) -> bool:
    return len(run.forest.roots) > 1 and isinstance(correlation_ids(run), str)


def _distinct_traces(_played: Played, run: Run, _: Any) -> bool:
    ids = [root.span.trace_id for root in run.forest.roots]
    return len(set(ids)) == len(ids) > 1


def _same_invocation(_played: Played, run: Run, _: Any) -> bool:
    roots = run.forest.roots
    return len(roots) > 1 and all(tree.name == INVOCATION for tree in roots) and isinstance(_invocation_id(run), str)


def _invocation_id(run: Run) -> Any:
    return single([root.of("invocation_id") for root in run.forest.roots])


def _dispatching(run: Run) -> Tree:
    """The only span that links to another trace."""
    (tree,) = [tree for tree in run.forest.all if run.forest.leads_on(tree)]
    return tree


def _nothing_leaked(_played: Played, run: Run, _: Any) -> bool:
    return len(run.forest.roots) > 1 and not any(tree.is_instance or tree.is_function for tree in run.forest.main)


def _error_on_dispatch(_played: Played, run: Run, _: Any) -> bool:
    tree = _dispatching(run)
    return tree in run.forest.main and tree.span.status == "ERROR"


def _error_on_detached(_played: Played, run: Run, _: Any) -> bool:
    detached = run.forest.roots[1:]
    return bool(detached) and all(root.name == INVOCATION and root.span.status == "ERROR" for root in detached)


def _exceptions_on_both(_played: Played, run: Run, _: Any) -> bool:
    both = [_dispatching(run), *run.forest.roots[1:]]
    return len(both) > 1 and all(tree.has_exception and tree.of("error.category") for tree in both)


def _log_traces(run: Run) -> set[str]:
    return {record.__dict__["trace_id"] for record in run.logs}


def _logged_under_their_spans(_played: Played, run: Run, _: Any) -> bool:
    """Each record names the span of the node that it names as its place."""
    spans = {tree.span.span_id: tree for tree in run.forest.all}
    places = [(record.__dict__["span_id"], record.__dict__["node"]) for record in run.logs]
    return len(set(places)) == len(places) > 1 and all(spans[span_id].name == node for span_id, node in places)


def _log_correlation(_played: Played, run: Run, _: Any) -> Any:
    return single([record.__dict__["correlation_id"] for record in run.logs])


def _same_path(played: Played, _run: Run, _: Any) -> bool:
    paths = [[event.node_name for event in run.nodes] for run in played.runs]
    return len(paths) > 1 and all(path == paths[0] and path for path in paths)


def _equal_counts(played: Played, _run: Run, _: Any) -> bool:
    counts = [len(run.forest.all) for run in played.runs]
    return len(counts) > 1 and len(set(counts)) == 1 and counts[0] > 0


def _attribution(trees: Sequence[Tree], *names: str) -> bool:
    """Whether all of them say what implements them, and there are some."""
    return bool(trees) and all(isinstance(tree.of(f"implementation.{name}"), str) for tree in trees for name in names)


def _attributed(trees: Sequence[Tree]) -> bool:
    return _attribution(trees, "name", "version") and all(
        tree.of(f"implementation.{name}") for tree in trees for name in ("name", "version")
    )


def _inner_are_not_attributed(run: Run) -> bool:
    inner = [tree for tree in run.forest.all if tree.name != INVOCATION]
    return bool(inner) and not any(
        name.startswith(f"{THEIRS}implementation.") for tree in inner for name in tree.attributes
    )


def _caller_id(played: Played, run: Run, _: Any) -> bool:
    given = played.case.values["caller_invocation_id"]
    return bool(given == run.forest.roots[0].of("invocation_id") == run.invocation_id)


OF_TRACE: dict[str, Check] = {
    "correlation_id_consistency": lambda _p, run, _: is_uuid4(correlation_ids(run)),
    "correlation_id_uniform_across_tree": lambda _p, run, _: correlation_ids(run),
    "correlation_id_is_uuidv4": lambda _p, run, _: is_uuid4(correlation_ids(run)),
    "each_invocation_correlation_id_uniform": _each_is_uniform,
    "correlation_ids_differ_across_invocations": _ids_differ,
    "all_correlation_ids_uuidv4": lambda played, _r, _: all(is_uuid4(correlation_ids(run)) for run in played.runs),
    "correlation_id_consistent_across_traces": _across_traces,
    "distinct_trace_ids": _distinct_traces,
    "all_instance_trace_ids_distinct": _distinct_traces,
    "detached_invocation_id_equals_parent": _same_invocation,
    "each_instance_trace_roots_in_invocation_span_sharing_parent_invocation_id": _same_invocation,
    "dispatch_span_link_count": lambda _p, run, _: len(_dispatching(run).span.links),
    "fan_out_node_span_link_count": lambda _p, run, _: len(_dispatching(run).span.links),
    "no_instance_spans_in_parent_trace": _nothing_leaked,
    "error_status_on_parent_dispatch_span": _error_on_dispatch,
    "error_status_on_parent_fan_out_node_span": _error_on_dispatch,
    "error_status_on_detached_invocation_span": _error_on_detached,
    "error_status_on_detached_instance_invocation_span": _error_on_detached,
    "exception_event_on_both_error_spans": _exceptions_on_both,
    "all_logs_same_trace_id": lambda _p, run, _: len(_log_traces(run)) == 1 < len(run.logs),
    "log_trace_ids_differ_when_detached": lambda _p, run, _: len(_log_traces(run)) == len(run.logs) > 1,
    "log_span_ids_match_active_span_at_emission": _logged_under_their_spans,
    "all_logs_carry_correlation_id": _log_correlation,
    "same_execution_path": _same_path,
    "span_count_equal_across_runs": _equal_counts,
    "caller_invocation_id_verbatim_on_attribute": _caller_id,
    "implementation_name_non_empty": lambda _p, run, _: _attributed(invocations(run)),
    "implementation_version_non_empty": lambda _p, run, _: _attributed(invocations(run)),
    "implementation_name_matches_canonical_value": lambda _p, run, _: (
        single([tree.of("implementation.name") for tree in invocations(run)]) == IMPLEMENTATION
    ),
    "attributes_on_invocation_span_only": lambda _p, run, _: (
        _attributed(invocations(run)) and _inner_are_not_attributed(run)
    ),
    "attributes_absent_on_inner_spans": lambda _p, run, _: _inner_are_not_attributed(run),
    "attribution_attrs_on_parent_invocation_span": lambda _p, run, _: _attributed(run.forest.roots[:1]),
    "attribution_attrs_on_detached_child_invocation_span": lambda _p, run, _: _attributed(run.forest.roots[1:]),
    "attribution_attrs_absent_on_inner_spans_both_traces": lambda _p, run, _: (
        len(run.forest.roots) > 1 and _inner_are_not_attributed(run)
    ),
    "always_emit_invariant_applies_to_every_invocation_span": lambda _p, run, _: (
        len(invocations(run)) > 1 and _attributed(invocations(run))
    ),
}
