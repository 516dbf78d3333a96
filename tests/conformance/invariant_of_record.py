"""What fixtures say in a word of saved records, of ids, of resumes and of migrations."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from orchestrator.errors import RollforwardError
from tests.conformance.excerpt import Check, completed, final, first, started, the_fan_out
from tests.conformance.expectation import as_json, is_uuid4, own_positions
from tests.conformance.running import Played, Run


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


def _rolled_forward(played: Played, run: Run, _: Any) -> bool:
    assert played.record is not None
    node = the_fan_out(played)
    (progress,) = played.record.fan_out_progress
    kept = [(one.result or {}).get(node.collect_field) for one in progress.instances]
    return bool(final(run)[node.target_field] == kept) and not any(
        event.fan_out_index is not None for event in run.nodes
    )


def _node_rolls_forward(played: Played, run: Run, _: Any) -> bool:
    crashed = played.case.take("crash_injection")["after_node"]
    return bool(started(first(played), crashed)) and not started(run, crashed)


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


OF_RECORD: dict[str, Check] = {
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
    "degrade_slot_rolled_forward_unchanged": _rolled_forward,
    "after_node_crash_rolls_node_forward": _node_rolls_forward,
    "inner_fan_out_progress_matched_per_enclosing_lineage": _missing_only,
    "each_outer_instance_skips_only_its_own_completed_inner_instances": _missing_only,
    "no_inner_instance_skipped_across_enclosing_instances": _missing_only,
    "legacy_unlineaged_entry_not_applied_to_nested_fan_out": _missing_only,
    "all_inner_instances_re_run_in_every_outer_instance": _missing_only,
}
