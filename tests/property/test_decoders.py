"""Whatever stands in Redis or in a message: a decoder gives a value of ours or its documented refusal, at once."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.ledgers.redis import wire
from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.errors import SealBroken
from orchestrator.execution.briefing import Briefing
from orchestrator.fan_out.entry import (
    Entry,
    EventsTold,
    NestedOpened,
    NestedReported,
    NodeCompleted,
    read_entries,
    write_entry,
)
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import FanOutKey, Level, Slot
from orchestrator.ledger.view import QueuedItem
from orchestrator.report import Outcome, Position, Report
from orchestrator.seal import Seal
from workers.message import Message, MessageRefused, decode, encode

EXAMPLES = int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "120"))
OPEN = Seal()
SEALED = Seal(["a-secret"])
SLOT = Slot("f1", 3, 1)
ENTRY = FanOutKey(("outer",), "files", FanOutKey((), "outer").enclosing(2), 1)
FOLD = Fold("inner", 4, "ab" * 16)

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)

REPORT = Report(
    slot=SLOT,
    outcome=Outcome.FAILED,
    token="t",
    delivery=2,
    worker="w",
    invocation_id="i",
    started_at=datetime(2026, 1, 2, tzinfo=UTC),
    duration_seconds=1.25,
    partial="{}",
    error=ErrorRecord("c", "bad \ud800", "ValueError", chain=(CauseLink(None, "bad", "ValueError"),)),
    code_version="v1",
    folds=(FOLD,),
    positions=(Position(("outer",), "node", 2, 1),),
    events=("{}",),
)
BRIEFING = Briefing(
    run_id="r1",
    invocation_id="i",
    correlation_id="c",
    graph="shop:flow",
    fingerprint="abc",
    fan_out=ENTRY,
    inputs="{}",
    instance_count=3,
    max_result_bytes=1000,
    time_limit_seconds=2.5,
    levels=(Level("outer", 2),),
)
MESSAGE = Message(run_id="r1", fan_out="f1", places=((17, 0), (18, 1)), graph="shop:flow", fingerprint="abc")
QUEUED = QueuedItem(SLOT, b'{"a": 1}', "key", (b"told",))
OPENED = FanOutRow(
    key=ENTRY, instance_count=1, item_hashes=b"12345678", item_keys=("one",), item_tags=({"colour": "red"},)
)
STEP = Step(position=0, namespace=("outer",), node="node", state="{}", lineage=ENTRY.lineage, folds=(FOLD,))
ENTRIES: list[Entry] = [
    NestedOpened(OPENED),
    NestedReported(REPORT, "key"),
    NodeCompleted(STEP),
    EventsTold("i", 1, ("{}",)),
]


@dataclass(frozen=True)
class Decoder:
    """How one kind of text is read, what it may raise, and a valid one; `refused` is what it gives for none."""

    read: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    valid: bytes
    refused: Any = None


def _report(text: bytes) -> Report:
    return wire.read_report("r1", b" " + text, OPEN, fan_out=SLOT.fan_out, index=SLOT.index)


def _sealed_entry(text: bytes) -> tuple[bytes, ...]:
    return wire.read_entries("r1", SLOT, [text], SEALED)


def _message(text: bytes) -> Message:
    return decode(" " + text.decode("utf-8", "surrogateescape"), OPEN)


def _entry(text: bytes) -> Any:
    return next(iter(read_entries([text])), None)


DECODERS = {
    "message": Decoder(_message, (MessageRefused,), encode(MESSAGE, OPEN).strip().encode()),
    "report": Decoder(_report, (SealBroken, ValueError), REPORT.to_json()),
    "report_of_record": Decoder(Report.from_json, (ValueError,), REPORT.to_json()),
    "briefing": Decoder(Briefing.from_json, (ValueError,), BRIEFING.to_json()),
    "queued_item": Decoder(wire.read_item, (ValueError,), wire.write_item(QUEUED)),
    "sealed_entry": Decoder(_sealed_entry, (), wire.write_entry("r1", SLOT, b"{}", SEALED), ()),
    **{type(entry).__name__: Decoder(_entry, (), write_entry(entry)) for entry in ENTRIES},
}
OF_JSON = {name: one for name, one in DECODERS.items() if name != "sealed_entry"}

each_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
each_of_json = pytest.mark.parametrize("decoder", OF_JSON.values(), ids=OF_JSON)

odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1.5,
        2**31,
        2**63,
        10**400,
        float("nan"),
        float("inf"),
        "",
        "\ud800",
        "\0",
        "text",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-01-02T03:04:05",
        [],
        {},
        [[]],
        [None],
        [1, 2, 3],
        {"kind": []},
        {"a": {"b": [None]}},
    ]
)


def is_refused(decoder: Decoder, text: bytes) -> bool:
    """Whether it refuses a text; any other exception than its refusals is the test's failure."""
    try:
        return bool(decoder.read(text) == decoder.refused)
    except decoder.refusals:
        return True


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values inside a JSON value, and to itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places_of(one, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with another one at a place."""
    if not path:
        return new
    changed = deepcopy(value)
    around = changed
    for key in path[:-1]:
        around = around[key]
    around[path[-1]] = new
    return changed


def json_of(decoder: Decoder) -> tuple[Any, bytes]:
    """The JSON of the valid text, and what stands after it."""
    head, newline, rest = decoder.valid.partition(b"\n")
    return json.loads(head), newline + rest


@each_decoder
def test_what_is_valid_is_read(decoder):
    assert not is_refused(decoder, decoder.valid)


@each_decoder
@fuzzed
@given(text=st.binary())
def test_any_bytes_are_refused_or_read(decoder, text):
    is_refused(decoder, text)


@each_decoder
@fuzzed
@given(data=st.data())
def test_a_valid_text_with_bytes_changed_is_refused_or_read(decoder, data):
    text = bytearray(decoder.valid)
    for place in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4)):
        text[place] = data.draw(st.integers(0, 255))
    is_refused(decoder, bytes(text))


@each_of_json
def test_a_text_that_was_cut_is_refused(decoder):
    head = decoder.valid.partition(b"\n")[0]
    assert [end for end in range(len(head)) if not is_refused(decoder, head[:end])] == []


@each_of_json
@fuzzed
@given(data=st.data())
def test_an_odd_value_at_any_place_is_refused_or_read(decoder, data):
    value, rest = json_of(decoder)
    changed = put(value, data.draw(st.sampled_from(places_of(value))), data.draw(odd_values))
    is_refused(decoder, json.dumps(changed).encode() + rest)


@each_of_json
@pytest.mark.parametrize("levels", [65, 1_000, 100_000])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_of_more_than_64_levels_is_refused(decoder, levels, start, end):
    rest = json_of(decoder)[1]
    deep = start * levels + b"1" + end * levels
    assert is_refused(decoder, deep + rest)
    assert is_refused(decoder, start * levels + rest)


@each_of_json
def test_levels_inside_any_field_count_as_well(decoder):
    value, rest = json_of(decoder)
    deep = b"[" * 100_000 + b"]" * 100_000
    for place in places_of(value):
        text = json.dumps(put(value, place, "HERE")).encode().replace(b'"HERE"', deep)
        assert is_refused(decoder, text + rest), place


@each_of_json
@pytest.mark.parametrize("number", [b"1" * 5_000, b"NaN", b"-Infinity", b"1e999"])
def test_what_is_no_number_of_ours_is_refused_at_any_place(decoder, number):
    value, rest = json_of(decoder)
    for place in places_of(value):
        text = json.dumps(put(value, place, "HERE")).encode().replace(b'"HERE"', number)
        assert is_refused(decoder, text + rest), place


@each_of_json
def test_a_name_that_stands_twice_is_refused_or_read(decoder):
    value, rest = json_of(decoder)
    if not isinstance(value, dict):
        return
    for name, one in value.items():
        twice = json.dumps(value)[:-1] + f", {json.dumps(name)}: {json.dumps([one])}}}"
        is_refused(decoder, twice.encode() + rest)


WRONG_IN_A_REPORT = [
    ("token", 1),
    ("token", "\0"),
    ("worker", "\ud800"),
    ("worker", None),
    ("delivery", "1"),
    ("delivery", True),
    ("delivery", -1),
    ("delivery", 2**31),
    ("attempts", 1.5),
    ("duration_seconds", "1"),
    ("partial", {"a": 1}),
    ("partial", "\0"),
    ("started_at", "2026-01-02T03:04:05"),
    ("started_at", "0001-01-01T00:00:00+23:59"),
    ("outcome", "won"),
    ("code_version", 7),
    ("folds", [["inner", "4", "ab"]]),
    ("folds", [["inner", 2**31, "ab"]]),
    ("folds", [["inner", 1, "\0"]]),
    ("positions", [[["outer"], "node", -1, 0]]),
    ("positions", [[[1], "node"]]),
    ("events", [1]),
    ("error", {"category": None, "message": 1, "type": "E"}),
    ("slot", ["f1", 3, "1"]),
    ("slot", ["f1", 3, -1]),
    ("unknown", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG_IN_A_REPORT)
def test_a_report_that_a_store_could_not_keep_is_refused(name, value):
    text = json.dumps({**json.loads(REPORT.to_json()), name: value}).encode()
    assert is_refused(DECODERS["report"], text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance_count", 2),
        ("instance_count", -1),
        ("instance_count", 10**12),
        ("item_hashes", "00"),
        ("item_keys", ["a", "b"]),
        ("item_tags", []),
    ],
)
def test_a_nested_fan_out_that_holds_other_than_it_says_is_refused(name, value):
    text = json.dumps({**json.loads(write_entry(NestedOpened(OPENED))), name: value}).encode()
    assert read_entries([text]) == []


def test_a_nested_fan_out_without_hashes_sets_no_more_aside_than_a_fan_out_may_have():
    told = {**json.loads(write_entry(NestedOpened(OPENED))), "item_hashes": "", "item_keys": None, "item_tags": None}
    texts = [json.dumps({**told, "instance_count": count}).encode() for count in (1_000_000, 1_000_001)]
    assert [entry.row.instance_count for entry in read_entries(texts) if isinstance(entry, NestedOpened)] == [1_000_000]


def test_a_report_of_another_slot_is_refused_by_that_name():
    with pytest.raises(SealBroken, match="speaks of"):
        wire.read_report("r1", b" " + REPORT.to_json(), OPEN, fan_out="f1", index=4)


@fuzzed
@given(text=st.binary(), signature=st.binary(max_size=80))
def test_nothing_of_a_report_is_read_that_is_not_sealed(text, signature):
    with pytest.raises(SealBroken):
        wire.read_report("r1", signature + b" " + text, SEALED, fan_out="f1", index=3)


@fuzzed
@given(text=st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_a_message_of_any_text_is_refused_with_and_without_a_secret(text):
    for seal in (OPEN, SEALED):
        with pytest.raises(MessageRefused):
            decode(text, seal)


def test_a_refusal_of_depth_says_how_deep_is_allowed():
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        Report.from_json("[" * 100_000)
    with suppress(MessageRefused):
        _message(b"[" * 500)
