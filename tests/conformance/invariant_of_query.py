"""What fixtures say in a word of observers that nodes ask."""

from typing import Any

from tests.conformance.excerpt import Check, final
from tests.conformance.queryable import Accumulator
from tests.conformance.running import Played, Run


def _count(run: Run) -> Any:
    return final(run)["observed_count"]


def _cycle_works(played: Played, run: Run, _: Any) -> bool:
    """It was told everything in the end, and what was read on the way is no more than that."""
    (observer,) = played.world.queryable.values()
    return bool(observer.count == len(run.nodes) >= _count(run))


def _changes_nothing(played: Played, run: Run, _: Any) -> bool:
    """The state has what was read, and else what the nodes made; all nodes ran in the order of the edges."""
    nodes = list(played.case.values["nodes"])
    ran = list(dict.fromkeys(event.node_name for event in run.nodes))
    before = run.nodes[0].pre_state.model_dump()
    changed = {name for name, value in final(run).items() if before[name] != value}
    return run.error is None and ran == nodes and changed <= {"observed_count"}


def _agrees(_played: Played, run: Run, _: Any) -> bool:
    snapshot = final(run)["observed_snapshot"]
    return bool(snapshot["total"] == sum(snapshot["by_type"].values()))


def _accumulator(played: Played) -> Accumulator:
    (observer,) = played.world.queryable.values()
    assert isinstance(observer, Accumulator)
    return observer


def _stays_after_completion(played: Played, _run: Run, _: Any) -> bool:
    """What came after a node had dropped its bucket is there still, although the invocation is over."""
    ids = [run.invocation_id for run in played.runs]
    return len(ids) > 1 and all(_accumulator(played).has_bucket(invocation_id) for invocation_id in ids)


def _buckets_apart(played: Played, _run: Run, _: Any) -> bool:
    buckets = [(run.invocation_id, final(run)["captured_bucket"]["events"]) for run in played.runs]
    return len(buckets) > 1 and all(
        events and all(event.endswith(f" in {invocation_id}") for event in events) for invocation_id, events in buckets
    )


OF_QUERY: dict[str, Check] = {
    "observer_attach_emit_consume_cycle_works": _cycle_works,
    "read_returns_non_negative_integer": lambda _p, run, _: type(_count(run)) is int and _count(run) >= 0,
    "read_is_consistent_no_torn_view": lambda _p, run, _: type(_count(run)) is int and _count(run) <= len(run.nodes),
    "observer_does_not_mutate_state_or_influence_routing": _changes_nothing,
    "snapshot_total_equals_sum_of_breakdown": _agrees,
    "read_does_not_raise_on_concurrent_write": lambda _p, run, _: run.error is None,
    "no_auto_drop_on_completion_signal": _stays_after_completion,
    "explicit_drop_removes_bucket": lambda played, _r, _: all(
        final(run)["bucket_after_drop_is_absent"] for run in played.runs
    ),
    "per_invocation_id_bucket_isolation": _buckets_apart,
    "accumulator_exposes_drop_method": lambda played, _r, _: callable(_accumulator(played).drop),
}
