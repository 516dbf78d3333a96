"""What fixtures say in a word of events, of drains and of who was told."""

from typing import Any

from orchestrator.observers.event import NodeEvent, Phase
from tests.conformance.excerpt import Check, completed, first
from tests.conformance.expectation import executed_nodes
from tests.conformance.running import Played, Run


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


OF_DELIVERY: dict[str, Check] = {
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
}
