"""Holds everything that a case expects against what was played."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.graph.node import FanOutNode
from orchestrator.middleware.timing import TimingRecord
from orchestrator.observers.event import NodeEvent, Phase
from tests.conformance import expectation as expect
from tests.conformance.document import PROSE, Section, UnknownDirective
from tests.conformance.invariant import check_invariants
from tests.conformance.invariant_of_event import check_event_invariants
from tests.conformance.isolated_event import isolated, nothing_isolated
from tests.conformance.langfuse import OF_LANGFUSE
from tests.conformance.observed_expectation import OF_METADATA
from tests.conformance.running import Played, Run
from tests.conformance.saved_record import check_saved
from tests.conformance.span_expectation import OF_TRACES
from tests.conformance.world import MemoryCounters

Judge = Callable[[Played, Run, Section, str], None]

OUTCOMES = frozenset({"expected", "expected_error", "resume", "invocations", "invariants"})
"""What a case says about its runs, beside what it says about its graph."""

PLAYED = frozenset(
    {
        *("state", "entry", "nodes", "edges", "subgraph", "subgraph_with_idx", "subgraphs", "inner_subgraphs"),
        *("middleware", "migrations", "observers", "initial_state", "checkpointer", "clock_stub", "seeded_record"),
        *("crash_injection", "runtime_state_subclass", "invoke_with", "populate_checkpointer_via_runs"),
        *("mock_llm", "caller_metadata", "disable_llm_spans", "caller_global_otel_active", "detached_subgraphs"),
        *("detached_fan_outs", "direct_call", "queryable_observers", "sequential_invocations", "informative"),
    }
)
"""What a case says of its graph and of how it is run: all of it is asked for until it has been run."""

KNOWN = PLAYED | OUTCOMES | PROSE
KNOWN |= {"run_count", "caller_invocation_id", "caller_correlation_id", "invoke", "drain", "expected_compile_error"}
KNOWN |= {"expected_compile_warning", "expected_chain_ambiguity_error", "first_run_expected_error"}
KNOWN |= {"saved_record_assertions", "every_save_assertions"}
"""What may stand in a case."""

EXPECTS_FAILURE = (
    *("expected_error", "recoverable_state", "invoke_rejects_at_api_boundary", "augment_rejects_at_call_site"),
)


def judge(played: Played) -> None:
    """See that everything holds which the case says, and that all of it was asked for.

    Raises:
        AssertionError: something does not hold, or is not known.
    """
    case = played.case
    _refuse([f"{case.path}.{key}" for key in case.keys if key not in KNOWN])
    if "expected_compile_error" in case or played.compile_error is not None:
        _compile_error(played, case)
        return
    _refuse([path for path in case.unused() if _part(path, case) in PLAYED])
    if "expected_compile_warning" in case:
        _compile_warning(played, case)
    if "expected_compile_warning" not in case or OUTCOMES & set(case.keys):
        _outcome(played, case)
    _refuse(case.unused())


def _refuse(unknown: Sequence[str]) -> None:
    if unknown:
        raise UnknownDirective(f"fixture_directive_unknown: {', '.join(unknown)}")


def _part(path: str, case: Section) -> str:
    """The key of the case that a path begins with."""
    return re.split(r"[.\[]", path.removeprefix(f"{case.path}."))[0]


def _compile_error(played: Played, case: Section) -> None:
    wanted = case.take("expected_compile_error", case.take("expected_chain_ambiguity_error"))
    assert played.compile_error is not None, "it compiles"
    expect.same(played.compile_error.category, wanted, "the category of the compile error")


def _compile_warning(played: Played, case: Section) -> None:
    """A list is all warnings, and a word is among them."""
    assert played.graph is not None
    assert played.building is not None
    wanted = case.take("expected_compile_warning")
    graphs = [played.graph, *played.building.subgraphs.values()]
    found = sorted(warning.category for graph in graphs for warning in graph.warnings)
    assert (found == sorted(wanted)) if isinstance(wanted, list) else (wanted in found), f"warnings {found}"


def _outcome(played: Played, case: Section) -> None:
    if "mock_llm" in case:
        expect.same(played.calls, len(case.take("mock_llm")), "the number of calls of the model")
    if "invocations" in case and not isinstance(case.take("invocations"), int):
        for run, section in zip(played.runs, case.listed("invocations"), strict=True):
            section.take("initial_state")
            section.section("drain").take("timeout_seconds") if "drain" in section else None
            _expected(played, run, section.section("expected"))
    elif "resume" in case:
        _resumed(played, case)
    else:
        for run in played.runs[-case.take("run_count", case.take("invocations", 1)) :]:
            _single(played, run, case)
    check_invariants(played, played.last, case.section("invariants"))


def _single(played: Played, run: Run, case: Section) -> None:
    if "expected_error" in case:
        expect.expect_error(played, run, case.section("expected_error"))
        for key in case.section("expected").keys:
            _hold(played, run, case.section("expected"), key)
    else:
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
        check_saved(played, played.record, case.section("saved_record_assertions"))
    if "expected_error" in resume:
        expect.expect_error(played, last, resume.section("expected_error"))
    elif "expected_chain_ambiguity_error" in resume:
        wanted = resume.take("expected_chain_ambiguity_error")
        expect.same(getattr(last.error, "category", None), wanted, "category")
    else:
        assert last.error is None, f"the resumed run failed: {last.error!r}"
    for key in resume.section("expected").keys:
        _hold(played, last, resume.section("expected"), key)
    check_invariants(played, last, resume.section("invariants"))


def _expected(played: Played, run: Run, section: Section) -> None:
    for key in section.keys:
        _hold(played, run, section, key)
    is_failure_expected = any(key in section for key in EXPECTS_FAILURE) or _has_failed_trace(section)
    assert run.error is None or is_failure_expected, f"the run failed: {run.error!r}"


def _has_failed_trace(section: Section) -> bool:
    """Whether the span of the invocation is expected to have failed."""
    trees = section.values.get("span_tree") or [
        tree for one in section.values.get("traces", ()) for tree in one["span_tree"]
    ]
    return bool(trees) and isinstance(trees[0], dict) and trees[0].get("status") == "ERROR"


def _hold(played: Played, run: Run, section: Section, key: str) -> None:
    if key not in EXPECTED:
        raise UnknownDirective(f"{section.path}.{key}")
    EXPECTED[key](played, run, section, key)


def _taking(check: expect.Check) -> Judge:
    return lambda played, run, section, key: check(played, run, section.take(key))


def _observer_events(played: Played, run: Run, section: Section, key: str) -> None:
    expected = section.take(key)
    observers = list(played.world.observers)
    if isinstance(expected, list) and len(observers) > 1:
        raise UnknownDirective(f"{section.path}.{key} is a list, and there are the observers {', '.join(observers)}")
    by_name = {(observers or ["everybody"])[0]: expected} if isinstance(expected, list) else expected
    for name, events in by_name.items():
        if observers and name not in observers:
            raise UnknownDirective(f"{section.path}.{key}.{name} is no observer")
        told = [event for observer, event in run.log if observer == name and isinstance(event, NodeEvent)]
        # A case that attaches nobody says what anybody would have been told.
        expect.events_match(told if observers else run.nodes, events, name)


def _delivery_order(_played: Played, run: Run, expected: Any) -> None:
    told = [(name, event) for name, event in run.log if isinstance(event, NodeEvent)]
    expect.same(len(told), len(expected), "the number of deliveries")
    for place, ((name, event), want) in enumerate(zip(told, expected, strict=True)):
        expect.same(name, want["observer"], f"delivery {place}")
        fields = {field: value for field, value in want.items() if field != "observer"}
        expect.event_matches(event, fields, f"delivery {place}")


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
                if field not in TRACE_FIELDS:
                    raise UnknownDirective(f"trace_records.{name}.{field}")
                expect.same(expect.as_json(record.get(TRACE_FIELDS[field])), value, f"{name}.{field}")


def _timing_records(played: Played, _run: Run, expected: Any) -> None:
    if isinstance(expected, dict):
        for name, records in expected.items():
            _match_timing([record for target, record in played.world.captured if target == name], records)
    else:
        _match_timing([record for _, record in played.world.captured], expected)


def _match_timing(kept: Sequence[TimingRecord], expected: Any) -> None:
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


def _checkpoint_saves(played: Played, _run: Run, expected: Any) -> None:
    assert played.store is not None
    saves = played.store.saves
    expect.same(len(saves), len(expected), "saves")
    for (node, record), want in zip(saves, expected, strict=True):
        expect.same(node, want["after_node"], "saved after")
        expect.same(record.state, want["state"], "saved state")
        expect.positions_match(expect.own_positions(played, record), want["completed_positions"], "saved positions")
        expect.same(set(want), {"after_node", "state", "completed_positions"}, "what is asked of a save")


def _latest_record(played: Played, _run: Run, section: Section, key: str) -> None:
    assert played.store is not None
    check_saved(played, played.store.saves[-1][1], section.section(key))


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
    """Every node of the first run that did not run again, in the order in which they ran then."""
    again = set(_executed_names(run))
    skipped = [name for name in _executed_names(played.runs[0]) if name not in again]
    expect.same(skipped, expected, "nodes skipped")


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


TRACE_FIELDS = {
    "pre_seen": "pre_seen",
    "post_seen": "post_seen",
    "state_in": "state_in",
    "pre_state": "state_in",
    "partial_update": "partial_update",
    "returned_partial": "partial_update",
}
"""How fixtures call what a trace recorder keeps."""

EXPECTED: dict[str, Judge] = {
    **{name: _taking(check) for name, check in {**OF_TRACES, **OF_LANGFUSE, **OF_METADATA}.items()},
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
    "expected_failure_isolation_event": _taking(isolated),
    "no_failure_isolation_event": _taking(nothing_isolated),
    "checkpoint_saves": _taking(_checkpoint_saves),
    "latest_record_assertions": _latest_record,
    "concurrency_invariant": _taking(_in_flight),
    "invocation_id": _taking(lambda _p, run, value: expect.same(run.invocation_id, value, "invocation id")),
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
