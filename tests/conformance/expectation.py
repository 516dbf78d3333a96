"""What fixtures expect of a case that was played."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.errors import GraphError
from orchestrator.graph.node import FanOutNode, ParallelBranchesNode, SubgraphNode
from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link
from orchestrator.middleware.retry import default_classifier
from orchestrator.observers.event import Event, FailureIsolatedEvent, NodeEvent, Phase
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.running import Played, Run

Check = Callable[[Played, Run, Any], None]


def same(actual: Any, expected: Any, what: str) -> None:
    """See that a value is the expected one; `<...>` in it matches a kind of value."""
    if isinstance(expected, str) and re.fullmatch(r"<[a-z][a-z0-9_-]*>", expected):
        if expected not in MATCHERS:
            raise UnknownDirective(f"matcher {expected}")
        assert MATCHERS[expected](actual), f"{what}: {actual!r} is no {expected}"
    elif isinstance(expected, dict) and isinstance(actual, dict) and set(actual) == set(expected):
        for name, value in expected.items():
            same(actual[name], value, f"{what}.{name}")
    elif isinstance(expected, list) and isinstance(actual, list) and len(actual) == len(expected):
        for index, value in enumerate(expected):
            same(actual[index], value, f"{what}[{index}]")
    else:
        is_same = actual == expected and isinstance(actual, bool) == isinstance(expected, bool)
        assert is_same, f"{what}: {actual!r} is not {expected!r}"


def _is_uuid4(value: Any) -> bool:
    try:
        return bool(str(uuid.UUID(value, version=4)) == value)
    except ValueError:
        return False


MATCHERS: dict[str, Callable[[Any], bool]] = {
    "<uuid>": _is_uuid4,
    "<any-string>": lambda value: isinstance(value, str),
    "<timestamp>": lambda value: isinstance(value, float) and value > 0,
}


def is_uuid4(value: Any) -> bool:
    return _is_uuid4(value)


def as_json(state: Any) -> Any:
    return state.model_dump() if hasattr(state, "model_dump") else state


def final_state(played: Played, run: Run, expected: Mapping[str, Any]) -> None:
    """Every declared field, exactly; records of errors have more keys than fixtures name, and have those."""
    assert run.error is None, f"the run failed: {run.error!r}"
    declared = {*((played.case.values.get("state") or {}).get("fields") or {}), *expected}
    actual = {name: value for name, value in as_json(run.final).items() if name in declared}
    actual |= played.world.side_channel
    expected = dict(expected)
    for name in [name for name in expected if name.endswith("_list_length") and name not in actual]:
        same(len(actual[name.removesuffix("_list_length")]), expected.pop(name), name)
        actual.pop(name.removesuffix("_list_length"))
    same(sorted(actual), sorted(expected), "the fields of the final state")
    records = _error_fields(played)
    for name, value in expected.items():
        if name in records:
            _error_records(actual[name], value, name)
        else:
            same(actual[name], value, f"field {name}")


def _error_records(actual: Sequence[Mapping[str, str]], expected: Sequence[Mapping[str, Any]], what: str) -> None:
    same(len(actual), len(expected), f"the number of {what}")
    for record, want in zip(actual, expected, strict=True):
        for key, value in want.items():
            # Whatever failed inside came out as a node_exception; ours say in their place what is behind it.
            if (key, value) != ("category", "node_exception"):
                same(record.get(key), value, f"{what}.{key}")


def _error_fields(played: Played) -> set[str | None]:
    assert played.graph is not None
    nodes = played.graph.nodes.values()
    return {node.errors_field for node in nodes if isinstance(node, FanOutNode | ParallelBranchesNode)}


def executed_nodes(played: Played, run: Run) -> list[str]:
    """The outer nodes that ran, in order; a subgraph node is known by the events inside it."""
    assert played.graph is not None
    assert played.store is not None
    if run.drain is not None and run.drain.timeout_reached:
        # The events were dropped, as the case wants it; what was saved was not.
        saves = [node for node, record in played.store.saves if record.run_id == run.run_id]
        return [node for node in saves if node is not None and node in played.graph.nodes]
    order: list[tuple[str, int]] = []
    inside: str | None = None
    for event in run.nodes:
        if event.phase is not Phase.STARTED:
            continue
        first = event.namespace[0]
        is_inner_of_subgraph = len(event.namespace) > 1 and isinstance(played.graph.nodes[first], SubgraphNode)
        if is_inner_of_subgraph and inside != first:
            order.append((first, -event.step - 1))
        if len(event.namespace) == 1 and (first, event.step) not in order:
            order.append((first, event.step))
        inside = first if is_inner_of_subgraph else None
    return [name for name, _ in order]


def execution_order(played: Played, run: Run, expected: Sequence[str]) -> None:
    """The outer nodes in order, or all that were called where a node inside another one is named."""
    assert played.graph is not None
    is_of_the_outer = all(name in played.graph.nodes for name in expected)
    actual = executed_nodes(played, run) if is_of_the_outer else called_nodes(run)
    same(actual, list(expected), "execution order")


def called_nodes(run: Run) -> list[str]:
    """Every node that was called, at any depth, once for all its attempts."""
    places = [(e.namespace, e.fan_out_index_chain, e.step) for e in run.nodes if e.phase is Phase.STARTED]
    return [namespace[-1] for namespace, _, _ in dict.fromkeys(places)]


def expect_error(played: Played, run: Run, section: Section) -> None:
    """What an error says, is, carries and was caused by."""
    error: Any = run.error
    assert error is not None, "the run did not fail"
    for key in section.keys:
        if key not in ERROR_CHECKS:
            raise UnknownDirective(f"{section.path}.{key}")
        ERROR_CHECKS[key](played, run, section.take(key))


def _message(error: BaseException | None, expected: Any, what: str) -> None:
    """What the failing code said, be it in the error or in its cause: our errors say where as well."""
    assert error is not None, f"{what}: there is no error"
    chain = classify_cause_chain(error)
    is_of_the_cause = expected in [link.message for link in chain]
    same(expected if is_of_the_cause else derived_link(chain).message, expected, what)


def _carries(_played: Played, run: Run, expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        same(getattr(run.error, name), value, name)


def _cause(_played: Played, run: Run, expected: Mapping[str, Any]) -> None:
    assert run.error is not None
    cause = run.error.__cause__
    for name, value in expected.items():
        match name:
            case "exception_type":
                same(type(cause).__name__, value, "the cause")
            case "category":
                same(getattr(cause, "category", None), value, "the cause's category")
            case "message":
                _message(cause, value, "the cause's message")
            case _:
                raise UnknownDirective(f"cause.{name}")


def _transient(_played: Played, run: Run, expected: bool) -> None:
    assert isinstance(run.error, Exception)
    same(default_classifier(run.error, None), expected, "transient")


def _recoverable(_played: Played, run: Run, expected: Any) -> None:
    assert isinstance(run.error, GraphError)
    same(as_json(run.error.recoverable_state), expected, "recoverable state")


ERROR_CHECKS: dict[str, Check] = {
    "category": lambda _p, run, value: same(getattr(run.error, "category", None), value, "category"),
    "raised_from": lambda _p, run, value: same(getattr(run.error, "node_name", None), value, "raised from"),
    "message": lambda _p, run, value: _message(run.error, value, "message"),
    "recoverable_state": _recoverable,
    "carries": _carries,
    "cause": _cause,
    "cause_message": lambda _p, run, value: _message(run.error, value, "message of the cause"),
    "branch_name": lambda _p, run, value: same(getattr(run.error, "branch_name", None), value, "branch"),
    "fan_out_category": lambda _p, run, value: same(getattr(run.error, "fan_out_category", None), value, "fan-out"),
    "transient": _transient,
    "execution_order": execution_order,
    "flaky_call_count": lambda played, _r, value: same(played.world.flaky_calls, value, "calls of the mock"),
}


def event_matches(event: Event, expected: Mapping[str, Any], what: str) -> None:
    """See that an event has the fields that are named, and no error or later state that is not."""
    for name, value in expected.items():
        if name not in EVENT_FIELDS:
            raise UnknownDirective(f"{what}.{name}")
        if name == "error" and isinstance(value, dict):
            _error_matches(event, value, f"{what}.{name}")
        else:
            same(EVENT_FIELDS[name](event), value, f"{what}.{name}")
    if isinstance(event, NodeEvent) and expected.get("error") is None and expected.get("post_state") is not None:
        assert event.error is None, f"{what} has the error {event.error!r}"
    if isinstance(event, NodeEvent) and expected.get("error") is not None:
        assert event.post_state is None, f"{what} has a state after it"


def _error_matches(event: Any, expected: Mapping[str, Any], what: str) -> None:
    for name, value in expected.items():
        match name:
            case "category":
                same(getattr(event.error, "category", None), value, f"{what}.category")
            case "message":
                _message(event.error, value, f"{what}.message")
            case _:
                raise UnknownDirective(f"{what}.{name}")


EVENT_FIELDS: dict[str, Callable[[Any], Any]] = {
    "step": lambda event: event.step,
    "phase": lambda event: event.phase.value,
    "node_name": lambda event: event.node_name,
    "namespace": lambda event: list(event.namespace),
    "pre_state": lambda event: as_json(event.pre_state),
    "post_state": lambda event: as_json(event.post_state),
    "parent_states": lambda event: [as_json(state) for state in event.parent_states],
    "error": lambda event: getattr(event.error, "category", None),
    "attempt_index": lambda event: event.attempt_index,
    "fan_out_index": lambda event: event.fan_out_index,
    "branch_name": lambda event: event.branch_name,
    "error_category": lambda event: (
        None if event.error is None else derived_link(classify_cause_chain(event.error)).category
    ),
    "error_absent": lambda event: event.error is None,
}


def events_match(events: Sequence[Event], expected: Sequence[Mapping[str, Any]], what: str) -> None:
    """Exactly these events in this order."""
    same(len(events), len(expected), f"the number of events of {what}")
    for place, (event, want) in enumerate(zip(events, expected, strict=True)):
        event_matches(event, want, f"{what}[{place}]")


def failure_isolated(run: Run) -> list[FailureIsolatedEvent]:
    return [event for event in run.events if isinstance(event, FailureIsolatedEvent)]


def positions_match(actual: Sequence[Any], expected: Sequence[Mapping[str, Any]], what: str) -> None:
    same(len(actual), len(expected), f"the number of positions of {what}")
    for position, want in zip(actual, expected, strict=True):
        for name, value in want.items():
            if name not in ("namespace", "node_name", "step", "attempt_index", "fan_out_index"):
                raise UnknownDirective(f"{what}.{name}")
            found = getattr(position, name)
            same(list(found) if name == "namespace" else found, value, f"{what}.{name}")


def own_positions(played: Played, record: CheckpointRecord) -> list[Any]:
    """The completed nodes as fixtures list them: a subgraph's node is none of its own."""
    assert played.graph is not None
    nodes = played.graph.nodes
    return [
        position
        for position in record.completed_positions
        if position.namespace or not isinstance(nodes.get(position.node_name), SubgraphNode)
    ]
