"""What the runner does not know fails a case by its name, wherever it stands."""

import copy
from contextlib import AsyncExitStack
from typing import Any

import pytest
import yaml

from tests.conformance.document import Case, UnknownDirective
from tests.conformance.judging import judge
from tests.conformance.running import Player

CASE = """
state:
  fields:
    items: {type: list<int>, default: [1]}
    results: {type: list<int>, reducer: append, default: []}
subgraphs:
  unit:
    state:
      fields:
        item: {type: int, default: 0}
        out: {type: int, default: 0}
    entry: work
    nodes:
      work: {flaky_by_index: {success_compute: {out: item}}}
    edges:
      - {from: work, to: END}
entry: greet
nodes:
  greet:
    update: {}
    middleware:
      - {type: retry, max_attempts: 1, backoff: {type: deterministic, seconds: 0}}
      - {type: trace_recorder, name: recorder}
  process:
    fan_out:
      {subgraph: unit, items_field: items, item_field: item, collect_field: out, target_field: results, concurrency: 1}
  split:
    parallel_branches:
      branches:
        alone: {call: {update: {}}}
edges:
  - {from: greet, to: process}
  - {from: process, to: split}
  - from: split
    condition: {if_field: items, equals: [], then: greet, else: END}
initial_state: {}
observers:
  - {name: watcher, attach: graph, target: outer, behavior: record}
checkpointer: in_memory
crash_injection: {after_node: greet}
saved_record_assertions:
  state: {items: [1], results: []}
resume:
  from_first_run: true
  expected:
    final_state: {items: [1], results: [1]}
    trace_records:
      recorder:
        - {pre_seen: true}
    observer_event_invariants: {inner_event_count: 4}
  invariants: {no_duplicate_results: true}
"""

PLACES: tuple[tuple[str | int, ...], ...] = (
    (),
    ("state",),
    ("state", "fields", "items"),
    ("subgraphs", "unit"),
    ("subgraphs", "unit", "nodes", "work", "flaky_by_index"),
    ("nodes", "greet"),
    ("nodes", "greet", "middleware", 0),
    ("nodes", "greet", "middleware", 0, "backoff"),
    ("nodes", "greet", "middleware", 1),
    ("nodes", "process", "fan_out"),
    ("nodes", "split", "parallel_branches"),
    ("nodes", "split", "parallel_branches", "branches", "alone"),
    ("nodes", "split", "parallel_branches", "branches", "alone", "call"),
    ("edges", 0),
    ("edges", 2, "condition"),
    ("observers", 0),
    ("crash_injection",),
    ("saved_record_assertions",),
    ("resume",),
    ("resume", "expected"),
    ("resume", "expected", "trace_records", "recorder", 0),
    ("resume", "expected", "observer_event_invariants"),
    ("resume", "invariants"),
)

VALUES: tuple[tuple[tuple[str | int, ...], str], ...] = (
    (("state", "fields", "items", "type"), "sorcery<int>"),
    (("state", "fields", "results", "reducer"), "sorcery"),
    (("nodes", "greet", "middleware", 0, "type"), "sorcery"),
    (("nodes", "greet", "middleware", 0, "backoff", "type"), "sorcery"),
    (("observers", 0, "attach"), "sorcery"),
    (("observers", 0, "target"), "sorcery"),
    (("observers", 0, "behavior"), "sorcery"),
    (("checkpointer",), "sorcery"),
    (("resume", "expected", "final_state", "results"), "<sorcery>"),
)


def document() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(CASE)
    return values


def at(values: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        values = values[step]
    return values


async def play(values: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        judge(await Player(Case("pipeline-utilities/000-all::case", copy.deepcopy(values)), stack).play())


async def test_a_case_passes_whose_words_are_all_known():
    await play(document())


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)) or "case")
async def test_a_directive_that_is_unknown_fails_the_case_by_its_name(place: tuple[str | int, ...]):
    values = document()
    at(values, place)["sorcery"] = True
    with pytest.raises(UnknownDirective, match="sorcery"):
        await play(values)


@pytest.mark.parametrize(("place", "value"), VALUES, ids=lambda part: str(part))
async def test_a_value_that_is_unknown_fails_the_case_by_its_name(place: tuple[str | int, ...], value: str):
    values = document()
    at(values, place[:-1])[place[-1]] = value
    with pytest.raises(UnknownDirective, match=value):
        await play(values)


async def test_a_directive_is_also_told_where_the_graph_does_not_compile():
    values = document()
    del values["entry"]
    for only_of_a_run in ("crash_injection", "saved_record_assertions"):
        del values[only_of_a_run]
    values["expected_compile_error"] = "no_declared_entry"
    await play(values)
    with pytest.raises(UnknownDirective, match="sorcery"):
        await play({**values, "sorcery": True})


async def test_a_failure_that_nobody_expects_fails_the_case():
    values = {
        "state": {"fields": {}},
        "entry": "fail",
        "nodes": {"fail": {"raises": "unexpected"}},
        "edges": [{"from": "fail", "to": "END"}],
        "expected": {"execution_order": ["fail"]},
    }
    with pytest.raises(AssertionError, match="unexpected"):
        await play(values)
