"""What fixtures say in a word of failures that were isolated, and of what took their place."""

from typing import Any

from orchestrator.errors import NodeException, ReducerError
from orchestrator.observers.event import Event, NodeEvent
from tests.conformance.excerpt import Check, final, started, the_fan_out
from tests.conformance.expectation import as_json, failure_isolated
from tests.conformance.running import Played, Run


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


def degraded_is_merged(_played: Played, run: Run, _: Any) -> bool:
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


def _degrade_contributes(played: Played, run: Run, _: Any) -> bool:
    node, (event,) = the_fan_out(played), failure_isolated(run)
    return bool(final(run)[node.target_field] == [event.post_state.get(node.collect_field)])


def _extra_by_subgraph_name(played: Played, run: Run, _: Any) -> bool:
    node, (event,) = the_fan_out(played), failure_isolated(run)
    return bool(node.extra_outputs) and all(
        final(run)[target] == [event.post_state.get(field)] for target, field in node.extra_outputs.items()
    )


def _empty_place(kind: str) -> Check:
    def check(played: Played, run: Run, _: Any) -> bool:
        node = the_fan_out(played)
        targets = [node.target_field] if kind == "collect" else list(node.extra_outputs)
        return all(final(run)[target] == [None] for target in targets) and bool(targets)

    return check


def _strict_reducer(_played: Played, run: Run, _: Any) -> bool:
    return isinstance(run.error, ReducerError)


def _isolated_yet_raised(_played: Played, run: Run, _: Any) -> bool:
    return isinstance(run.error, ReducerError) and len(failure_isolated(run)) >= 1


OF_ISOLATION: dict[str, Check] = {
    "engine_does_not_see_exception": _no_error,
    "event_is_distinct_from_node_event": _is_distinct,
    "event_name_is_caller_supplied": _event_name_is_the_callers,
    "callable_receives_pre_merge_state": _degraded_from_before,
    "callable_return_merges_via_reducer": degraded_is_merged,
    "matching_exception_caught": _is_caught,
    "non_matching_exception_propagates": _propagates,
    "no_event_when_predicate_does_not_match": _nothing_isolated,
    "retry_exhausts_before_isolation_catches": _retries_before_isolation,
    "outer_to_inner_ordering_load_bearing": _retries_before_isolation,
    "on_caught_fires_exactly_once": _on_caught_once,
    "on_caught_receives_original_exception": _on_caught_original,
    "framework_event_still_emits_with_on_caught": _is_caught,
    "degraded_return_reaches_engine_with_on_caught": degraded_is_merged,
    "default_predicate_catches_bare_exception": _is_caught,
    "caught_exception_category_null_for_non_categorized": _uncategorised,
    "caught_exception_message_captures_str_exc": lambda _p, run, _: (
        _caught(run).message == _caught(run).chain[0].message
    ),
    "engine_sees_degraded_return": degraded_is_merged,
    "category_resolves_through_node_exception_wrapper": _through_carrier,
    "category_not_masked_as_node_exception": _not_masked,
    "contribution_is_the_degraded_update": _degrade_contributes,
    "extra_outputs_read_by_subgraph_field_name": _extra_by_subgraph_name,
    "omitted_collect_field_yields_null_slot": _empty_place("collect"),
    "degrade_path_does_not_raise": _no_error,
    "derived_category_is_outermost_non_carrier_with_category": _derived,
    "chain_includes_carrier_and_originating": _chain_has(carriers=1, others=1),
    "node_level_chain_is_single_non_carrier_link": _chain_has(carriers=0, others=1),
    "uncategorized_cause_yields_null_derived_category": _uncategorised,
    "chain_has_two_non_carrier_links": _chain_has(carriers=1, others=2),
    "extra_outputs_omission_is_null_slot": _empty_place("extra"),
    "absent_collect_field_yields_null_slot": _empty_place("collect"),
    "fan_in_does_not_raise": _no_error,
    "strict_reducer_null_slot_raises": _strict_reducer,
    "degrade_does_not_suppress_reducer_error": _isolated_yet_raised,
    "catch_matches_through_node_exception_carrier": _through_carrier,
    "catch_non_matching_propagates": _propagates,
    "no_event_when_catch_does_not_match": _nothing_isolated,
}
