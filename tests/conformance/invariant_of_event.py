"""What fixtures say of the events of a run as a whole."""

from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.observers.event import NodeEvent, Phase
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.expectation import same
from tests.conformance.running import Played

Events = Sequence[NodeEvent]
Check = Callable[[Events, Any], Any]


def check_event_invariants(_played: Played, events: Events, section: Section) -> None:
    """Hold every invariant of a section against these events; each gives the value that the fixture states."""
    for name in section.keys:
        if name not in INVARIANTS:
            raise UnknownDirective(f"{section.path}.{name}")
        expected = section.take(name)
        same(INVARIANTS[name](events, expected), expected, name)


def at_depth(events: Events, depth: int) -> list[NodeEvent]:
    return [event for event in events if len(event.namespace) == depth]


def inner(events: Events) -> list[NodeEvent]:
    return [event for event in events if len(event.namespace) > 1]


def of_node(events: Events, name: str) -> list[NodeEvent]:
    return [event for event in events if event.node_name == name]


def indices(events: Events) -> list[Any]:
    return sorted({event.fan_out_index for event in events if event.fan_out_index is not None})


def attempts(events: Events) -> list[int]:
    return sorted({event.attempt_index for event in events})


def chains(events: Events) -> list[list[Any]]:
    return [list(chain) for chain in sorted({event.fan_out_index_chain for event in events}, key=str)]


def branch_chains(events: Events) -> list[list[Any]]:
    return [list(chain) for chain in sorted({event.branch_name_chain for event in events}, key=str)]


def in_branch(events: Events, branch: str) -> list[NodeEvent]:
    return [event for event in events if event.branch_name == branch]


def _identity(event: NodeEvent) -> tuple[Any, ...]:
    return event.namespace, event.fan_out_index_chain, event.branch_name_chain, event.attempt_index, event.phase


def _scalar_is_innermost(events: Events) -> bool:
    return bool(events) and all(
        event.fan_out_index == [index for index in event.fan_out_index_chain if index is not None][-1]
        for event in events
    )


def _scalar_repeats(events: Events) -> bool:
    outer: dict[Any, set[Any]] = {}
    for event in events:
        outer.setdefault(event.fan_out_index, set()).add(event.fan_out_index_chain[0])
    return all(len(found) > 1 for found in outer.values())


def _pairs_per_instance(events: Events, expected: int) -> Any:
    counts = {sum(event.fan_out_index == index for event in inner(events)) for index in indices(events)}
    return expected if counts == {expected} else counts


def _carry_branch(events: Events, expected: dict[str, str]) -> Any:
    found = {name: {event.branch_name for event in of_node(events, name)} for name in expected}
    return {name: next(iter(names)) if len(names) == 1 else names for name, names in found.items()}


def _no_branch(events: Events, expected: dict[str, Any]) -> Any:
    named = [event for name in expected["nodes"] for event in of_node(events, name)]
    is_all_there = {event.node_name for event in named} == set(expected["nodes"])
    return expected if is_all_there and not any(event.branch_name for event in named) else "a branch name"


def _started_branches(events: Events) -> list[str]:
    started = [event.branch_name for event in inner(events) if event.phase is Phase.STARTED and event.branch_name]
    return list(dict.fromkeys(started))


def _single(values: Sequence[Any]) -> Any:
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else found


def _wide(events: Events) -> list[NodeEvent]:
    """The events inside a fan-out inside a branch."""
    return [event for event in inner(events) if event.fan_out_index is not None]


def _plain(events: Events) -> list[NodeEvent]:
    nodes = {event.node_name for event in _wide(events)}
    fan_outs = {event.namespace[-2] for event in _wide(events)}
    return [event for event in inner(events) if event.node_name not in nodes | fan_outs]


def _both_phases(events: Events) -> bool:
    """Whether every branch among these has both its events."""
    phases = {name: {e.phase for e in in_branch(events, name)} for name in {str(e.branch_name) for e in events}}
    return bool(phases) and all(found == {Phase.STARTED, Phase.COMPLETED} for found in phases.values())


def _present(events: Events, phase: Phase) -> bool:
    return any(event.node_name == "persist" and event.phase is phase for event in events)


INVARIANTS: dict[str, Check] = {
    "pre_node_events_count": lambda events, _: len([e for e in at_depth(events, 1) if e.node_name == _first(events)]),
    "pre_node_fan_out_index_absent": lambda events, _: all(
        e.fan_out_index is None for e in at_depth(events, 1) if e.node_name == _first(events)
    ),
    "process_node_events_count": lambda events, _: len(of_node(events, "process")),
    "process_node_fan_out_index_absent": lambda events, _: all(
        e.fan_out_index is None for e in of_node(events, "process")
    ),
    "inner_event_count": lambda events, _: len(inner(events)),
    "inner_fan_out_indices_seen": lambda events, _: indices(inner(events)),
    "inner_attempt_indices_seen": lambda events, _: attempts(inner(events)),
    "inner_event_identities_unique": lambda events, _: (
        len({_identity(e) for e in inner(events)}) == len(inner(events)) > 0
    ),
    "outermost_events_have_no_branch_name": _no_branch,
    "inner_events_carry_correct_branch_name": _carry_branch,
    "outer_fan_out_node_events_count": lambda events, _: len(at_depth(events, 1)),
    "outer_fan_out_node_fan_out_index_chain_empty": lambda events, _: chains(at_depth(events, 1)) == [[]],
    "outer_fan_out_node_fan_out_index_absent": lambda events, _: not indices(at_depth(events, 1)),
    "inner_fan_out_node_events_count": lambda events, _: len(at_depth(events, 2)),
    "inner_fan_out_node_fan_out_index_chains_seen": lambda events, _: chains(at_depth(events, 2)),
    "inner_fan_out_node_branch_name_chains_seen": lambda events, _: branch_chains(at_depth(events, 2)),
    "inner_fan_out_node_scalar_fan_out_index_equals_innermost_chain_element": lambda events, _: _scalar_is_innermost(
        at_depth(events, 2)
    ),
    "inner_fan_out_node_scalar_branch_name_absent": lambda events, _: all(
        e.branch_name is None for e in at_depth(events, 2)
    ),
    "leaf_node_events_count": lambda events, _: len(at_depth(events, 3)),
    "leaf_fan_out_index_chains_seen": lambda events, _: chains(at_depth(events, 3)),
    "leaf_branch_name_chains_seen": lambda events, _: branch_chains(at_depth(events, 3)),
    "leaf_scalar_fan_out_index_equals_innermost_chain_element": lambda events, _: _scalar_is_innermost(
        at_depth(events, 3)
    ),
    "leaf_scalar_branch_name_absent": lambda events, _: all(e.branch_name is None for e in at_depth(events, 3)),
    "leaf_event_identities_unique_by_chain": lambda events, _: (
        len({_identity(e) for e in at_depth(events, 3)}) == len(at_depth(events, 3)) > 0
    ),
    "leaf_scalar_fan_out_index_not_unique_across_outer_instances": lambda events, _: _scalar_repeats(
        at_depth(events, 3)
    ),
    "inner_events_have_fan_out_index": lambda events, _: all(e.fan_out_index is not None for e in inner(events)),
    "inner_events_attempt_indices_seen": lambda events, _: attempts(inner(events)),
    "fan_out_indices_seen": lambda events, _: indices(inner(events)),
    "inner_event_pair_count_per_instance": _pairs_per_instance,
    "alpha_inner_attempt_indices_seen": lambda events, _: attempts(in_branch(events, "alpha")),
    "beta_inner_attempt_indices_seen": lambda events, _: attempts(in_branch(events, "beta")),
    "gamma_inner_attempt_indices_seen": lambda events, _: attempts(in_branch(events, "gamma")),
    "branch_started_event_order": lambda events, _: _started_branches(events),
    "fan_out_inner_events_carry_both_branch_name_and_fan_out_index": lambda events, _: (
        bool(_wide(events)) and all(e.branch_name is not None for e in _wide(events))
    ),
    "fan_out_inner_branch_name_seen": lambda events, _: _single([e.branch_name for e in _wide(events)]),
    "fan_out_inner_fan_out_indices_seen": lambda events, _: indices(_wide(events)),
    "plain_inner_events_carry_branch_name_but_no_fan_out_index": lambda events, _: (
        bool(_plain(events)) and all(e.branch_name and e.fan_out_index is None for e in _plain(events))
    ),
    "plain_inner_branch_name_seen": lambda events, _: _single([e.branch_name for e in _plain(events)]),
    "dispatcher_node_events_count": lambda events, _: len(of_node(events, "dispatcher")),
    "inner_branch_names_seen": lambda events, _: sorted({str(e.branch_name) for e in inner(events)}),
    "persist_started_present": lambda events, _: _present(events, Phase.STARTED),
    "persist_completed_present": lambda events, _: _present(events, Phase.COMPLETED),
    "retrieve_node_attempt_indices_seen": lambda events, _: attempts(of_node(events, "retrieve")),
    "vector_callable_branch_attempt_indices_seen": lambda events, _: attempts(in_branch(events, "vector")),
    "callable_branch_events_report_current_attempt_index": lambda events, _: (
        attempts(inner(events)) == attempts(at_depth(events, 1)) != [0]
    ),
    "callable_branch_started_and_completed_carry_attempt_index_one_on_retry": lambda events, _: _both_phases(
        [event for event in inner(events) if event.attempt_index == 1]
    ),
}


def _first(events: Events) -> str:
    return at_depth(events, 1)[0].node_name
