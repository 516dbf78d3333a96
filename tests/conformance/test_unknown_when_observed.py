"""What the runner does not know of traces, metadata and calls of models fails a case by its name as well."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
import yaml

from tests.conformance.document import Case, UnknownDirective
from tests.conformance.judging import judge
from tests.conformance.running import Player
from tests.conformance.scene import Scene
from tests.conformance.test_unknown_directive import at

CASE = """
state:
  fields:
    crates: {type: list<dict>, default: [{label: north}]}
    read: {type: dict, default: {}}
    answer: {type: string, default: ""}
    seen: {type: int, default: 0}
inner_subgraphs:
  weigh:
    entry: look
    nodes:
      look: {capture_invocation_metadata_into: held}
    edges:
      - {from: look, to: END}
entry: scales
nodes:
  scales:
    fan_out: {items_field: crates, inner_subgraph: weigh, augment_metadata_from_field: {label: label}}
  ask:
    emits_log: {message: asking, level: INFO}
    also_emits_via_global_tracer: {span_name: elsewhere}
    calls_llm: {messages: [{role: user, content: hi}], stores_response_in: answer}
    calls_llm_from_wrapper: {phase: pre, messages: [{role: user, content: hi}]}
  again:
    retry_middleware: {max_attempts: 2, classifier: transient_marker}
    per_attempt_behavior:
      - {attempt: 0, augment_metadata: {turn: 0}, raises: transient_marker_error}
      - {attempt: 1, capture_invocation_metadata_into: read, succeeds: true}
  count:
    capture_queryable_observer_read_into: {observer_name: counter, method: get_count, state_field: seen}
edges:
  - {from: scales, to: ask}
  - from: ask
    when: {field: seen, gt: 5}
    to: count
  - {from: ask, to: again}
  - {from: again, to: count}
  - {from: count, to: END}
initial_state: {}
caller_metadata: {tenant: t}
caller_global_otel_active: true
queryable_observers:
  - {name: counter, kind: event_counter}
mock_llm:
  - {status: 200, body: &body {choices: [{message: {content: hi}, finish_reason: stop}], model: m, id: a}}
  - {status: 200, body: *body}
expected:
  span_tree:
    - name: openarmature.invocation
      status: OK
      attributes:
        openarmature.implementation.name: {harness_parameterized: implementation_name, non_empty_string: true}
  langfuse_trace:
    metadata: {tenant: t, turn: 0}
  log_records:
    - body: asking
      attributes: {trace_id: <trace_id_main>}
  final_state_bounds:
    seen: {min: 0, max: 11}
  invariants: {llm_provider_span_count: 2}
"""

PLACES: tuple[tuple[str | int, ...], ...] = (
    ("nodes", "scales", "fan_out"),
    ("inner_subgraphs", "weigh", "nodes", "look"),
    ("nodes", "ask", "emits_log"),
    ("nodes", "ask", "also_emits_via_global_tracer"),
    ("nodes", "ask", "calls_llm"),
    ("nodes", "ask", "calls_llm_from_wrapper"),
    ("nodes", "again", "retry_middleware"),
    ("nodes", "again", "per_attempt_behavior", 0),
    ("nodes", "count", "capture_queryable_observer_read_into"),
    ("edges", 1, "when"),
    ("queryable_observers", 0),
    ("expected", "span_tree", 0),
    ("expected", "span_tree", 0, "attributes", "openarmature.implementation.name"),
    ("expected", "langfuse_trace"),
    ("expected", "invariants"),
)

VALUES: tuple[tuple[tuple[str | int, ...], str], ...] = (
    (("nodes", "ask", "calls_llm_from_wrapper", "phase"), "sorcery"),
    (("nodes", "again", "per_attempt_behavior", 0, "raises"), "sorcery"),
    (("queryable_observers", 0, "kind"), "sorcery"),
)


def document() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(CASE)
    return values


async def play(values: dict[str, Any], stage: Scene) -> None:
    async with AsyncExitStack() as stack:
        judge(await Player(Case("observability/000-all::case", values), stack, scene=stage).play())


async def test_a_case_passes_whose_words_are_all_known(stage: Scene):
    await play(document(), stage)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
async def test_a_directive_that_is_unknown_fails_the_case_by_its_name(place: tuple[str | int, ...], stage: Scene):
    values = document()
    at(values, place)["sorcery"] = True
    with pytest.raises(UnknownDirective, match="sorcery"):
        await play(values, stage)


@pytest.mark.parametrize(("place", "value"), VALUES, ids=lambda part: str(part))
async def test_a_value_that_is_unknown_fails_the_case_by_its_name(
    place: tuple[str | int, ...], value: str, stage: Scene
):
    values = document()
    at(values, place[:-1])[place[-1]] = value
    with pytest.raises(UnknownDirective, match=value):
        await play(values, stage)


async def test_a_call_that_nobody_made_or_expected_fails_the_case(stage: Scene):
    values = document()
    values["mock_llm"].append(values["mock_llm"][0])
    with pytest.raises(AssertionError, match="the number of calls of the model: 2 is not 3"):
        await play(values, stage)


async def test_a_span_that_nobody_expects_fails_the_case(stage: Scene):
    values = document()
    values["expected"]["span_tree"][0]["children"] = []
    with pytest.raises(AssertionError, match="the spans of the trace/openarmature"):
        await play(values, stage)
