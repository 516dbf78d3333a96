"""What fixtures say of a run in a word: every word is a check of its own."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from orchestrator.errors import NodeException, ReducerError, RollforwardError
from orchestrator.graph.node import FanOutNode, ParallelBranchesNode
from orchestrator.observers.event import Event, NodeEvent, Phase
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.expectation import as_json, executed_nodes, failure_isolated, is_uuid4, own_positions, same
from tests.conformance.running import Played, Run

Check = Callable[[Played, Run, Any], Any]


def check_invariants(played: Played, run: Run, section: Section) -> None:
    """Hold every invariant of a section against the case; each gives the value that the fixture states.

    Raises:
        UnknownDirective: there is no check of that name.
    """
    for name in section.keys:
        if name not in INVARIANTS:
            raise UnknownDirective(f"{section.path}.{name}")
        expected = section.take(name)
        same(INVARIANTS[name](played, run, expected), expected, name)


def final(run: Run) -> dict[str, Any]:
    values: dict[str, Any] = as_json(run.final)
    return values


def first(played: Played) -> Run:
    return played.runs[0]


def completed(run: Run, node: str | None = None) -> list[NodeEvent]:
    events = [event for event in run.nodes if event.phase is Phase.COMPLETED]
    return [event for event in events if node in (None, event.node_name)]


def started(run: Run, node: str | None = None) -> list[NodeEvent]:
    events = [event for event in run.nodes if event.phase is Phase.STARTED]
    return [event for event in events if node in (None, event.node_name)]


def _no_events_for(played: Played, run: Run, node: str) -> Any:
    assert played.graph is not None
    is_silent = node in played.graph.nodes and not any(event.node_name == node for event in run.nodes)
    return node if is_silent else "events, or no such node"


def _edge_error_is_in_completed(_played: Played, run: Run, _: Any) -> bool:
    last = completed(run)[-1]
    return type(last.error) is type(run.error) and last.post_state is None and len(completed(run)) == 1


def _drained_in_time(played: Played, run: Run, _: Any) -> bool:
    told = (
        run.drain_seconds
        if run.drain and run.drain.timeout_reached
        else played.world.drain_seconds.get(first(played).invocation_id)
    )
    # To wait for the slow observers of these cases takes more than a second.
    return told is not None and told < 0.6


def _still_works(played: Played, run: Run, _: Any) -> bool:
    return run.error is None and run.final is not None and bool(executed_nodes(played, run))


def _second_drain_is_its_own(played: Played, _run: Run, _: Any) -> bool:
    one, two = played.runs
    ids = {event.invocation_id for _, event in two.log}
    return bool(one.drain and one.drain.timeout_reached) and ids == {two.invocation_id}


def _all_were_told(_played: Played, run: Run, _: Any) -> bool:
    return len([1 for _, event in run.log if isinstance(event, NodeEvent)]) == len(run.nodes) > 0


def _read_is_synchronized(played: Played, run: Run, _: Any) -> bool:
    """What a node read after its drain is every event up to its own start."""
    for node, observers in played.world.snapshots[run.invocation_id].items():
        upto = next(i for i, e in enumerate(run.nodes) if e.node_name == node and e.phase is Phase.STARTED)
        for kept in observers.values():
            if list(kept) != run.nodes[: upto + 1]:
                return False
    return bool(played.world.snapshots[run.invocation_id])


def _buckets_are_separate(played: Played, _run: Run, _: Any) -> bool:
    (observer,) = played.world.observers.values()
    return all(
        {event.invocation_id for event in observer.buckets[run.invocation_id]} == {run.invocation_id}
        for run in played.runs
    )


def _nobody_was_cancelled(played: Played, _run: Run, _: Any) -> bool:
    (observer,) = played.world.observers.values()
    return all(len(observer.buckets[run.invocation_id]) == len(run.nodes) for run in played.runs)


def _covers_all(played: Played, run: Run, _: Any) -> bool:
    inner = [event for event in run.nodes if len(event.namespace) > 1]
    kept = [
        event
        for one in played.world.snapshots[run.invocation_id].values()
        for events in one.values()
        for event in events
    ]
    return bool(inner) and all(event in kept for event in inner) and len({e.invocation_id for e in kept}) == 1


def _saves_follow_events(played: Played, run: Run, _: Any) -> bool:
    assert played.store is not None
    return [node for node, _ in played.store.saves] == [event.node_name for event in completed(run)]


def _steps_rise(played: Played, _run: Run, _: Any) -> bool:
    assert played.store is not None
    steps = [position.step for position in own_positions(played, played.store.saves[-1][1])]
    return all(one < two for one, two in pairwise(steps))


def _times_rise(played: Played, _run: Run, _: Any) -> bool:
    assert played.store is not None
    times = [record.last_saved_at for _, record in played.store.saves]
    return len(times) > 1 and all(one <= two for one, two in pairwise(times))


def _attempts_begin_at_zero(_played: Played, run: Run, _: Any) -> bool:
    return started(run)[0].attempt_index == 0


def _parents_are_those_of_entry(played: Played, run: Run, _: Any) -> bool:
    assert played.record is not None
    parents = [as_json(state) for state in next(e for e in run.nodes if len(e.namespace) > 1).parent_states]
    return parents == list(played.record.parent_states)


def _not_run_again(played: Played, run: Run, _: Any) -> bool:
    inner = next(event.node_name for event in first(played).nodes if len(event.namespace) > 1)
    return inner not in [event.node_name for event in run.nodes]


def _correlation_ids(played: Played) -> set[str]:
    told = {event.correlation_id for run in played.runs for event in run.events}
    return told | {run.correlation_id for run in played.runs}


def _no_duplicates(_played: Played, run: Run, _: Any) -> bool:
    results = final(run)["results"]
    return len(results) == len({str(one) for one in results}) > 0


def _list_length(name: str) -> Check:
    return lambda _played, run, _: len(final(run)[name])


def _ran_in_instance_1(node: str) -> Check:
    return lambda _played, run, _: any(event.fan_out_index == 1 for event in started(run, node))


def _no_duplicate_errors(_played: Played, run: Run, _: Any) -> bool:
    indexes = [one["fan_out_index"] for one in final(run)["errors"]]
    return len(indexes) == len(set(indexes)) > 0


def _only_instances_are_batched(played: Played, _run: Run, _: Any) -> bool:
    assert played.store is not None
    nodes = [record for node, record in played.store.saves if node is not None]
    return bool(nodes) and all(record.completed_positions for record in nodes)


def _is_not(_played: Played, run: Run, categories: list[str]) -> Any:
    known = {kind.category for kind in _kinds(RollforwardError)}
    assert known.issuperset(categories), f"no category of errors is called so: {set(categories) - known}"
    return categories if getattr(run.error, "category", None) not in categories else run.error


def _kinds(kind: type[RollforwardError]) -> Iterator[type[RollforwardError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _kinds(inner)


def _no_error(_played: Played, run: Run, _: Any) -> bool:
    return run.error is None and run.final is not None


def _caught(run: Run) -> Any:
    (event,) = failure_isolated(run)
    return event.caught_exception


def _is_caught(_played: Played, run: Run, _: Any) -> bool:
    return run.error is None and len(failure_isolated(run)) == 1


def _propagates(_played: Played, run: Run, _: Any) -> bool:
    return isinstance(run.error, NodeException) and run.error.__cause__ is not None


def _nothing_isolated(_played: Played, run: Run, _: Any) -> bool:
    return run.error is not None and not failure_isolated(run)


def _is_distinct(_played: Played, run: Run, _: Any) -> bool:
    (event,) = failure_isolated(run)
    kinds: list[Event] = [one for one in run.events if one is event]
    return len(kinds) == 1 and not isinstance(event, NodeEvent) and bool(run.nodes)


def _event_name_is_the_callers(played: Played, run: Run, _: Any) -> bool:
    (event,) = failure_isolated(run)
    specs = [one for chain in played.case.take("middleware")["per_node"].values() for one in chain]
    return event.event_name in [spec.get("event_name") for spec in specs]


def _degraded_from_before(played: Played, run: Run, _: Any) -> bool:
    return [as_json(state) for state in played.world.degraded_from] == [as_json(run.nodes[0].pre_state)]


def _degraded_is_merged(_played: Played, run: Run, _: Any) -> bool:
    (event,) = failure_isolated(run)
    return all(final(run)[name] == value for name, value in event.post_state.items()) and bool(event.post_state)


def _retries_before_isolation(_played: Played, run: Run, _: Any) -> bool:
    attempts = [event.attempt_index for event in started(run)]
    last = max(i for i, one in enumerate(run.events) if isinstance(one, NodeEvent))
    (event,) = failure_isolated(run)
    return attempts == [0, 1] and run.events.index(event) > last - 1 and event.attempt_index == attempts[-1]


def _on_caught_once(played: Played, _run: Run, _: Any) -> bool:
    return len(played.world.caught) == 1


def _on_caught_original(played: Played, run: Run, _: Any) -> bool:
    (error,) = played.world.caught
    return str(error) == _caught(run).message and type(error).__name__ == "MockFailure"


def _derived(_played: Played, run: Run, _: Any) -> bool:
    caught = _caught(run)
    own = [link for link in caught.chain if not link.carrier and link.category]
    return bool(own) and caught.category == own[0].category and caught.message == own[0].message


def _chain_has(*, carriers: int, others: int) -> Check:
    def check(_played: Played, run: Run, _: Any) -> bool:
        chain = _caught(run).chain
        return sum(link.carrier for link in chain) == carriers and sum(not link.carrier for link in chain) == others

    return check


def _uncategorised(_played: Played, run: Run, _: Any) -> bool:
    return _caught(run).category is None


def _through_carrier(_played: Played, run: Run, _: Any) -> bool:
    caught = _caught(run)
    return bool(caught.chain[0].carrier and caught.chain[0].category == "node_exception" != caught.category)


def _not_masked(_played: Played, run: Run, _: Any) -> bool:
    return _caught(run).category not in (None, "node_exception")


def _fan_out(played: Played) -> FanOutNode:
    assert played.graph is not None
    (node,) = [node for node in played.graph.nodes.values() if isinstance(node, FanOutNode)]
    return node


def _degrade_contributes(played: Played, run: Run, _: Any) -> bool:
    node, (event,) = _fan_out(played), failure_isolated(run)
    return bool(final(run)[node.target_field] == [event.post_state.get(node.collect_field)])


def _extra_by_subgraph_name(played: Played, run: Run, _: Any) -> bool:
    node, (event,) = _fan_out(played), failure_isolated(run)
    return bool(node.extra_outputs) and all(
        final(run)[target] == [event.post_state.get(field)] for target, field in node.extra_outputs.items()
    )


def _empty_place(kind: str) -> Check:
    def check(played: Played, run: Run, _: Any) -> bool:
        node = _fan_out(played)
        targets = [node.target_field] if kind == "collect" else list(node.extra_outputs)
        return all(final(run)[target] == [None] for target in targets) and bool(targets)

    return check


def _prior_is_kept(played: Played, run: Run, _: Any) -> bool:
    assert played.graph is not None
    before = as_json(run.nodes[0].pre_state)
    (event,) = failure_isolated(run)
    (node,) = [node for node in played.graph.nodes.values() if isinstance(node, ParallelBranchesNode)]
    (branch,) = node.branches.values()
    kept = [target for target, field in branch.outputs.items() if field not in event.post_state]
    return bool(kept) and all(final(run)[target] == before[target] for target in kept)


def _rolled_forward(played: Played, run: Run, _: Any) -> bool:
    assert played.record is not None
    node = _fan_out(played)
    (progress,) = played.record.fan_out_progress
    kept = [(one.result or {}).get(node.collect_field) for one in progress.instances]
    return bool(final(run)[node.target_field] == kept) and not any(
        event.fan_out_index is not None for event in run.nodes
    )


def _node_rolls_forward(played: Played, run: Run, _: Any) -> bool:
    crashed = played.case.take("crash_injection")["after_node"]
    return bool(started(first(played), crashed)) and not started(run, crashed)


def _strict_reducer(_played: Played, run: Run, _: Any) -> bool:
    return isinstance(run.error, ReducerError)


def _isolated_yet_raised(_played: Played, run: Run, _: Any) -> bool:
    return isinstance(run.error, ReducerError) and len(failure_isolated(run)) >= 1


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
    return event.branch_name in _branches(played).branches and _degraded_is_merged(played, run, _)


def _sibling_completed(played: Played, run: Run, _: Any) -> bool:
    (event,) = failure_isolated(run)
    done = {one.branch_name for one in completed(run) if one.error is None and one.branch_name}
    return done == set(_branches(played).branches) - {event.branch_name}


def _leaves(run: Run) -> set[tuple[int | None, ...]]:
    return {event.fan_out_index_chain for event in started(run) if len(event.namespace) == 3}


def _missing_only(played: Played, run: Run, _: Any) -> bool:
    """Exactly the inner instances ran that the record, by their own lineage, does not have."""
    return _leaves(run) == _expected_leaves(played)


def _expected_leaves(played: Played) -> set[tuple[int | None, ...]]:
    progress = played.case.take("seeded_record")["fan_out_progress"]
    (outer,) = [one for one in progress if not one["namespace"]]
    counts = {one["instance_count"] for one in progress if one["namespace"]}
    every: set[tuple[int | None, ...]] = {(i, j) for i in range(outer["instance_count"]) for j in range(max(counts))}
    done = {
        (one["enclosing_fan_out_lineage"][0]["fan_out_index"], index)
        for one in progress
        if one.get("enclosing_fan_out_lineage")
        for index, instance in enumerate(one["instances"])
        if instance["state"] == "completed"
    }
    return every - done


INVARIANTS: dict[str, Check] = {
    "no_events_for_node": _no_events_for,
    "edge_resolution_failure_in_completed_event": _edge_error_is_in_completed,
    "drain_returned_within_timeout": _drained_in_time,
    "graph_state_intact_after_timeout": _still_works,
    "second_invocation_drain_independent_of_first": _second_drain_is_its_own,
    "drain_waited_for_all_events": _all_were_told,
    "drain_events_for_synchronized_accumulator_read": _read_is_synchronized,
    "drain_returned_without_blocking_on_post_call_events": _read_is_synchronized,
    "graph_state_intact_after_per_invocation_drain_timeout": _still_works,
    "workers_not_cancelled_on_per_invocation_drain_timeout": _nobody_was_cancelled,
    "each_invocation_has_unique_invocation_id": lambda played, _r, _: (
        len({run.invocation_id for run in played.runs}) == len(played.runs) > 1
    ),
    "drain_scopes_strictly_to_supplied_invocation_id": _buckets_are_separate,
    "drain_covered_all_fan_out_instances_via_shared_invocation_id": _covers_all,
    "drain_covered_all_parallel_branches_via_shared_invocation_id": _covers_all,
    "save_count": lambda played, _r, _: len(played.store.saves) if played.store else 0,
    "save_order_matches_completed_event_order": _saves_follow_events,
    "invocation_id_is_uuidv4": lambda _p, run, _: is_uuid4(run.invocation_id),
    "last_saved_at_monotonic_across_saves": _times_rise,
    "completed_positions_step_monotonic": _steps_rise,
    "attempt_index_reset_to_zero_on_resume": _attempts_begin_at_zero,
    "subgraph_re_entry_uses_parent_states": _parents_are_those_of_entry,
    "inner_first_node_not_re_run": _not_run_again,
    "first_run_correlation_id": lambda played, _r, _: first(played).correlation_id,
    "resumed_run_correlation_id": lambda played, _r, _: played.last.correlation_id,
    "correlation_id_uniform_across_both_runs": lambda played, _r, _: len(_correlation_ids(played)) == 1,
    "first_and_resumed_invocation_ids_differ": lambda played, _r, _: (
        first(played).invocation_id != played.last.invocation_id
    ),
    "saved_record_correlation_id": lambda played, _r, _: played.record.correlation_id if played.record else None,
    "first_run_correlation_id_is_uuidv4": lambda played, _r, _: is_uuid4(first(played).correlation_id),
    "resumed_run_correlation_id_matches_first": lambda played, _r, _: len(_correlation_ids(played)) == 1,
    "no_new_correlation_id_generated_on_resume": lambda played, _r, _: (
        {event.correlation_id for event in played.last.events} == {first(played).correlation_id}
    ),
    "single_migration_invocation": lambda played, _r, _: len(played.world.migrations_run) == 1,
    "migration_count": lambda played, _r, _: len(played.world.migrations_run),
    "migration_order_matches_chain": lambda played, _r, _: all(
        one.split("->")[1] == two.split("->")[0] for one, two in pairwise(played.world.migrations_run)
    ),
    "migration_registry_not_consulted": lambda played, _r, _: not played.world.migrations_run,
    "migration_invocation_count": lambda played, _r, _: len(played.world.migrations_run),
    "error_category_not": _is_not,
    "no_duplicate_results": _no_duplicates,
    "results_list_length": _list_length("results"),
    "instance_1_executes_step_a_on_resume": _ran_in_instance_1("step_a"),
    "instance_1_executes_step_b_on_resume": _ran_in_instance_1("step_b"),
    "no_duplicate_error_entries": _no_duplicate_errors,
    "instance_1_attempt_index_on_resume": lambda _p, run, _: min(
        event.attempt_index for event in run.nodes if event.fan_out_index == 1
    ),
    "instance_1_resume_attempt_count": lambda _p, run, _: len([e for e in started(run) if e.fan_out_index == 1]),
    "batching_scoped_to_fan_out_internal_saves_only": _only_instances_are_batched,
    "first_run_invocation_id": lambda played, _r, _: first(played).invocation_id,
    "resumed_run_invocation_id_is_fresh_uuidv4": lambda played, _r, _: (
        is_uuid4(played.last.invocation_id) and played.last.invocation_id != first(played).invocation_id
    ),
    "resumed_run_invocation_id_not_caller_supplied": lambda played, _r, _: (
        played.last.invocation_id
        not in (played.case.take("caller_invocation_id"), played.case.take("resume")["caller_invocation_id"])
    ),
    "resumed_invocation_id_differs_from_original": lambda played, _r, _: (
        first(played).invocation_id != played.last.invocation_id
    ),
    "resumed_correlation_id_matches_original": lambda played, _r, _: (
        first(played).correlation_id == played.last.correlation_id
    ),
    "engine_does_not_see_exception": _no_error,
    "event_is_distinct_from_node_event": _is_distinct,
    "event_name_is_caller_supplied": _event_name_is_the_callers,
    "callable_receives_pre_merge_state": _degraded_from_before,
    "callable_return_merges_via_reducer": _degraded_is_merged,
    "matching_exception_caught": _is_caught,
    "non_matching_exception_propagates": _propagates,
    "no_event_when_predicate_does_not_match": _nothing_isolated,
    "retry_exhausts_before_isolation_catches": _retries_before_isolation,
    "outer_to_inner_ordering_load_bearing": _retries_before_isolation,
    "on_caught_fires_exactly_once": _on_caught_once,
    "on_caught_receives_original_exception": _on_caught_original,
    "framework_event_still_emits_with_on_caught": _is_caught,
    "degraded_return_reaches_engine_with_on_caught": _degraded_is_merged,
    "default_predicate_catches_bare_exception": _is_caught,
    "caught_exception_category_null_for_non_categorized": _uncategorised,
    "caught_exception_message_captures_str_exc": lambda _p, run, _: (
        _caught(run).message == _caught(run).chain[0].message
    ),
    "engine_sees_degraded_return": _degraded_is_merged,
    "category_resolves_through_node_exception_wrapper": _through_carrier,
    "category_not_masked_as_node_exception": _not_masked,
    "contribution_is_the_degraded_update": _degrade_contributes,
    "extra_outputs_read_by_subgraph_field_name": _extra_by_subgraph_name,
    "omitted_collect_field_yields_null_slot": _empty_place("collect"),
    "degrade_path_does_not_raise": _no_error,
    "uncovered_projected_field_skipped": _prior_is_kept,
    "parent_keeps_prior_value": _prior_is_kept,
    "derived_category_is_outermost_non_carrier_with_category": _derived,
    "chain_includes_carrier_and_originating": _chain_has(carriers=1, others=1),
    "node_level_chain_is_single_non_carrier_link": _chain_has(carriers=0, others=1),
    "uncategorized_cause_yields_null_derived_category": _uncategorised,
    "chain_has_two_non_carrier_links": _chain_has(carriers=1, others=2),
    "extra_outputs_omission_is_null_slot": _empty_place("extra"),
    "absent_collect_field_yields_null_slot": _empty_place("collect"),
    "fan_in_does_not_raise": _no_error,
    "degrade_slot_rolled_forward_unchanged": _rolled_forward,
    "after_node_crash_rolls_node_forward": _node_rolls_forward,
    "strict_reducer_null_slot_raises": _strict_reducer,
    "degrade_does_not_suppress_reducer_error": _isolated_yet_raised,
    "catch_matches_through_node_exception_carrier": _through_carrier,
    "catch_non_matching_propagates": _propagates,
    "no_event_when_catch_does_not_match": _nothing_isolated,
    "callable_branches_run_without_subgraph": _calls_only,
    "contributions_merge_via_parent_reducer": _merged,
    "when_false_branch_skipped": _conditional(runs=False),
    "skipped_branch_no_contribution": _no_contribution,
    "skipped_branch_emits_no_event": _conditional(runs=False),
    "when_true_branch_dispatches": _conditional(runs=True),
    "callable_branch_failure_isolated_and_degraded": _isolated_branch,
    "sibling_branch_completed": _sibling_completed,
    "inner_fan_out_progress_matched_per_enclosing_lineage": _missing_only,
    "each_outer_instance_skips_only_its_own_completed_inner_instances": _missing_only,
    "no_inner_instance_skipped_across_enclosing_instances": _missing_only,
    "legacy_unlineaged_entry_not_applied_to_nested_fan_out": _missing_only,
    "all_inner_instances_re_run_in_every_outer_instance": _missing_only,
}
