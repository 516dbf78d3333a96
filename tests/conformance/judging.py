"""Holds everything that a case expects against what was played."""

from collections.abc import Callable
from typing import Any

from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.graph.node import FanOutNode
from orchestrator.observers.event import NodeEvent, Phase
from tests.conformance import expectation as expect
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.invariant import check_invariants
from tests.conformance.invariant_of_event import check_event_invariants
from tests.conformance.running import Played, Run
from tests.conformance.world import MemoryCounters

Judge = Callable[[Played, Run, Section, str], None]


def judge(played: Played) -> None:
    """See that everything holds which the case says, and that all of it was asked for.

    Raises:
        AssertionError: something does not hold, or is not known.
    """
    case = played.case
    if "expected_compile_error" in case or played.compile_error is not None:
        _compile_error(played, case)
    elif "expected_compile_warning" in case:
        assert played.graph is not None
        wanted = case.take("expected_compile_warning")
        found = [warning.category for warning in played.graph.warnings]
        assert (found == wanted) if isinstance(wanted, list) else (wanted in found), f"warnings {found}"
    else:
        _outcome(played, case)
    if played.compile_error is None:
        unused = case.unused()
        if unused:
            raise UnknownDirective(f"fixture_directive_unknown: {', '.join(unused)}")


def _compile_error(played: Played, case: Section) -> None:
    wanted = case.take("expected_compile_error", case.take("expected_chain_ambiguity_error"))
    assert played.compile_error is not None, "it compiles"
    expect.same(played.compile_error.category, wanted, "the category of the compile error")


def _outcome(played: Played, case: Section) -> None:
    if "invocations" in case:
        for run, section in zip(played.runs, case.listed("invocations"), strict=True):
            section.take("initial_state")
            section.section("drain").take("timeout_seconds") if "drain" in section else None
            _expected(played, run, section.section("expected"))
    elif "resume" in case:
        _resumed(played, case)
    else:
        for run in played.runs[-case.take("run_count", 1) :]:
            _single(played, run, case)
    check_invariants(played, played.last, case.section("invariants"))


def _single(played: Played, run: Run, case: Section) -> None:
    if "expected_error" in case:
        expect.expect_error(played, run, case.section("expected_error"))
    _expected(played, run, case.section("expected"))
    if "every_save_assertions" in case:
        assert played.store is not None
        for name, value in case.take("every_save_assertions").items():
            for _, record in played.store.saves:
                expect.same(getattr(record, name), value, name)


def _resumed(played: Played, case: Section) -> None:
    resume, first, last = case.section("resume"), played.runs[0], played.last
    for key in ("from_first_run", "from_seeded_record", "caller_invocation_id", "resume_with_modified_items"):
        resume.take(key)
    if "first_run_expected_error" in case:
        expect.expect_error(played, first, case.section("first_run_expected_error"))
    if "saved_record_assertions" in case:
        assert played.record is not None
        _saved(played, played.record, case.section("saved_record_assertions"))
    if "expected_error" in resume:
        expect.expect_error(played, last, resume.section("expected_error"))
    elif "expected_chain_ambiguity_error" in resume:
        wanted = resume.take("expected_chain_ambiguity_error")
        expect.same(getattr(last.error, "category", None), wanted, "category")
    else:
        assert last.error is None, f"the resumed run failed: {last.error!r}"
    _expected(played, last, resume.section("expected"))
    check_invariants(played, last, resume.section("invariants"))


def _expected(played: Played, run: Run, section: Section) -> None:
    for key in section.keys:
        if key not in EXPECTED:
            raise UnknownDirective(f"{section.path}.{key}")
        EXPECTED[key](played, run, section, key)


def _taking(check: expect.Check) -> Judge:
    return lambda played, run, section, key: check(played, run, section.take(key))


def _observer_events(played: Played, run: Run, section: Section, key: str) -> None:
    for name, expected in section.take(key).items():
        told = [event for observer, event in run.log if observer == name and isinstance(event, NodeEvent)]
        expect.events_match(told, expected, name)


def _delivery_order(_played: Played, run: Run, expected: Any) -> None:
    told = [
        {"observer": name, "step": event.step, "phase": event.phase.value}
        for name, event in run.log
        if isinstance(event, NodeEvent)
    ]
    expect.same(told, expected, "delivery order")


def _drain_summary(_played: Played, run: Run, expected: Any) -> None:
    _summary(run.drain, expected, "drain summary")


def _summary(summary: Any, expected: Any, what: str) -> None:
    for name, value in expected.items():
        if name == "undelivered_count_min":
            assert summary.undelivered_count >= value, f"{what}: {summary.undelivered_count} undelivered"
        elif name in ("undelivered_count", "timeout_reached"):
            expect.same(getattr(summary, name), value, f"{what}.{name}")
        else:
            raise UnknownDirective(f"{what}.{name}")


def _node_drains(played: Played, run: Run, expected: Any) -> None:
    for node, summary in expected.items():
        _summary(played.world.drains[run.invocation_id].get(node), summary, f"drain in {node}")


def _snapshots(played: Played, run: Run, expected: Any) -> None:
    for node, observers in expected.items():
        for name, events in observers.items():
            expect.events_match(played.world.snapshots[run.invocation_id][node][name], events, f"{name} in {node}")


def _snapshot_invariants(played: Played, run: Run, section: Section, key: str) -> None:
    for node, observers in section.sections(key):
        for name in observers.keys:
            kept = played.world.snapshots[run.invocation_id][node][name]
            check_event_invariants(played, kept, observers.section(name))


def _final_accumulators(played: Played, run: Run, expected: Any) -> None:
    for name, events in expected.items():
        expect.events_match(played.world.observers[name].buckets[run.invocation_id], events, name)


def _trace_records(played: Played, _run: Run, expected: Any) -> None:
    for name, records in expected.items():
        kept = played.world.trace_records[name]
        expect.same(len(kept), len(records), f"records of {name}")
        for record, want in zip(kept, records, strict=True):
            for field, value in want.items():
                expect.same(expect.as_json(record[field]), value, f"{name}.{field}")


def _timing_records(played: Played, _run: Run, expected: Any) -> None:
    kept = played.world.captured["timing_records"]
    expect.same(len(kept), len(expected), "timing records")
    for record, want in zip(kept, expected, strict=True):
        for name, value in want.items():
            actual = getattr(record, name)
            expect.same(round(actual, 6) if name == "duration_ms" else actual, value, name)


def _one_observer_event(_played: Played, run: Run, expected: Any) -> None:
    done = [event for event in run.nodes if event.phase is Phase.COMPLETED and event.node_name == expected["node_name"]]
    expect.event_matches(done[-1], expected, "the completed event")


def _attempt_events(_played: Played, run: Run, expected: Any) -> None:
    names = {want["node_name"] for want in expected}
    expect.events_match([event for event in run.nodes if event.node_name in names], expected, "attempts")


def _failure_isolation(_played: Played, run: Run, expected: Any) -> None:
    events = expect.failure_isolated(run)
    expect.same(len(events), 1, "failure isolation events")
    event = events[0]
    for name, value in expected.items():
        match name:
            case "event_name":
                expect.same(event.event_name, value, name)
            case "pre_state" | "post_state":
                expect.same(expect.as_json(getattr(event, name)), value, name)
            case "wrapped_node_lineage":
                for field, want in value.items():
                    expect.same(expect.EVENT_FIELDS[field](event), want, field)
            case "caught_exception":
                _caught(event.caught_exception, value)
            case _:
                raise UnknownDirective(f"expected_failure_isolation_event.{name}")


def _caught(caught: Any, expected: Any) -> None:
    for name, value in expected.items():
        if name == "chain":
            expect.same(len(caught.chain), len(value), "links")
            for link, want in zip(caught.chain, value, strict=True):
                for field, wanted in want.items():
                    expect.same(getattr(link, field), wanted, f"link.{field}")
        elif name in ("category", "message"):
            expect.same(getattr(caught, name), value, f"caught {name}")
        else:
            raise UnknownDirective(f"caught_exception.{name}")


def _no_failure_isolation(_played: Played, run: Run, expected: bool) -> None:
    expect.same(not expect.failure_isolated(run), expected, "no failure isolation event")


def _checkpoint_saves(played: Played, _run: Run, expected: Any) -> None:
    assert played.store is not None
    saves = played.store.saves
    expect.same(len(saves), len(expected), "saves")
    for (node, record), want in zip(saves, expected, strict=True):
        expect.same(node, want["after_node"], "saved after")
        expect.same(record.state, want["state"], "saved state")
        expect.positions_match(expect.own_positions(played, record), want["completed_positions"], "saved positions")
        expect.same(set(want), {"after_node", "state", "completed_positions"}, "what is asked of a save")


def _saved(played: Played, record: CheckpointRecord, section: Section) -> None:
    for key in section.keys:
        if key not in SAVED:
            raise UnknownDirective(f"{section.path}.{key}")
        SAVED[key](played, record, section.take(key))


def _saved_progress(played: Played, record: CheckpointRecord, expected: Any) -> None:
    assert played.graph is not None
    if expected is None:
        expect.same(record.fan_out_progress, (), "fan-outs in progress")
        return
    for name, want in expected.items():
        (progress,) = [one for one in record.fan_out_progress if one.fan_out_node_name == name]
        collected = played.graph.fan_out_at((*progress.namespace, name)).collect_field
        expect.same(progress.instance_count, want["instance_count"], "instance count")
        expect.same(len(progress.instances), len(want["instances"]), "instances")
        for index, (instance, one) in enumerate(zip(progress.instances, want["instances"], strict=True)):
            expect.saved_instance(instance, one, collected, f"{name}[{index}]")


def _fan_out_is_completed(played: Played, record: CheckpointRecord, expected: bool) -> None:
    assert played.graph is not None
    names = {name for name in played.graph.nodes if hasattr(played.graph.nodes[name], "collect_field")}
    found = any(position.node_name in names for position in record.completed_positions)
    expect.same(found, expected, "the fan-out node among the completed positions")


SAVED: dict[str, Callable[[Played, CheckpointRecord, Any], None]] = {
    "completed_positions": lambda played, record, value: expect.positions_match(
        expect.own_positions(played, record), value, "saved positions"
    ),
    "state": lambda _p, record, value: expect.same(record.state, value, "saved state"),
    "fan_out_progress": _saved_progress,
    "fan_out_node_in_completed_positions": _fan_out_is_completed,
    "parent_states_present": lambda _p, record, value: expect.same(bool(record.parent_states), value, "parents"),
    "parent_states_outermost_first": lambda played, record, value: expect.same(
        set(record.parent_states[0]) == set(played.graph.state_class.model_fields) if played.graph else False,
        value,
        "the outermost parent state first",
    ),
    "invocation_id": lambda _p, record, value: expect.same(record.invocation_id, value, "invocation id"),
    "correlation_id": lambda _p, record, value: expect.same(record.correlation_id, value, "correlation id"),
    "schema_version": lambda _p, record, value: expect.same(record.schema_version, value, "schema version"),
    "last_saved_at": lambda _p, record, value: expect.same(record.last_saved_at, value, "last saved at"),
    "parent_states": lambda _p, record, value: expect.same(list(record.parent_states), value, "parent states"),
}


def _latest_record(played: Played, _run: Run, section: Section, key: str) -> None:
    assert played.store is not None
    _saved(played, played.store.saves[-1][1], section.section(key))


def _executed_instances(run: Run) -> list[int]:
    return sorted({event.fan_out_index for event in run.nodes if event.fan_out_index is not None})


def _skipped_instances(played: Played, run: Run, expected: Any) -> None:
    assert run.final is not None
    assert played.store is not None
    counts = [one.instance_count for _, record in played.store.saves for one in record.fan_out_progress]
    skipped = [index for index in range(max(counts)) if index not in _executed_instances(run)]
    expect.same(skipped, expected, "instances skipped")


def _executed_names(run: Run) -> list[str]:
    return list(dict.fromkeys(event.node_name for event in run.nodes))


def _skipped_nodes(played: Played, run: Run, expected: Any) -> None:
    before = {event.node_name for event in played.runs[0].nodes}
    for name in expected:
        assert name in before, f"{name} never ran"
        assert name not in _executed_names(run), f"{name} ran again"


def _successful_attempt(_played: Played, run: Run, expected: int) -> None:
    done = [event for event in run.nodes if event.phase is Phase.COMPLETED and event.error is None]
    expect.same(done[-1].attempt_index, expected, "the attempt that succeeded")


def _in_flight(played: Played, run: Run, expected: dict[str, int]) -> None:
    assert played.graph is not None
    (node,) = [node for node in played.graph.nodes.values() if isinstance(node, FanOutNode)]
    bound = node.concurrency(run.final) if callable(node.concurrency) else node.concurrency
    expect.same(bound, expected["max_in_flight"], "the bound")
    expect.same(set(expected), {"max_in_flight"}, "what is asked of concurrency")
    most = played.world.counters.most(run.run_id)
    assert most <= expected["max_in_flight"], f"{most} in flight"
    # On one loop they surely meet; workers may be done with one before they hear of the next.
    assert most > 1 or not isinstance(played.world.counters, MemoryCounters), "none ran beside another"


def _phases_refused(played: Played, _run: Run, expected: bool) -> None:
    assert played.graph is not None
    try:
        played.graph.attach_observer(played.world.observers[next(iter(played.world.observers))], phases=[])
    except ValueError:
        is_refused = True
    else:
        is_refused = False
    expect.same(is_refused, expected, "empty phases are refused")


def _nested_error(played: Played, run: Run, section: Section, key: str) -> None:
    expect.expect_error(played, run, section.section(key))


EXPECTED: dict[str, Judge] = {
    "final_state": _taking(expect.final_state),
    "execution_order": _taking(expect.execution_order),
    "observer_events": _observer_events,
    "delivery_order": _taking(_delivery_order),
    "drain_summary": _taking(_drain_summary),
    "node_drain_summaries": _taking(_node_drains),
    "node_accumulator_snapshots": _taking(_snapshots),
    "node_accumulator_snapshot_invariants": _snapshot_invariants,
    "final_accumulator_state": _taking(_final_accumulators),
    "observer_event_invariants": lambda played, run, section, key: check_event_invariants(
        played, run.nodes, section.section(key)
    ),
    "invariants": lambda played, run, section, key: check_invariants(played, run, section.section(key)),
    "expected_error": _nested_error,
    "recoverable_state": lambda played, run, section, key: expect.ERROR_CHECKS[key](played, run, section.take(key)),
    "trace_records": _taking(_trace_records),
    "timing_records": _taking(_timing_records),
    "expected_observer_event": _taking(_one_observer_event),
    "expected_attempt_events": _taking(_attempt_events),
    "expected_failure_isolation_event": _taking(_failure_isolation),
    "no_failure_isolation_event": _taking(_no_failure_isolation),
    "checkpoint_saves": _taking(_checkpoint_saves),
    "latest_record_assertions": _latest_record,
    "concurrency_invariant": _taking(_in_flight),
    "no_propagated_error": _taking(lambda _p, run, value: expect.same(run.error is None, value, "no error")),
    "empty_phases_raises_at_registration": _taking(_phases_refused),
    "instances_executed_during_resume": _taking(
        lambda _p, run, value: expect.same(_executed_instances(run), value, "instances executed")
    ),
    "instances_skipped_during_resume": _taking(_skipped_instances),
    "nodes_executed_during_resume": _taking(
        lambda _p, run, value: expect.same(_executed_names(run), value, "nodes executed")
    ),
    "nodes_skipped_during_resume": _taking(_skipped_nodes),
    "successful_attempt_index_during_resume": _taking(_successful_attempt),
    "migrations_run": _taking(
        lambda played, _run, value: expect.same(played.world.migrations_run, value, "migrations run")
    ),
}
