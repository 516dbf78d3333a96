"""JSON of bounded depth, and records whose fields are what they are declared to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.reading import read_json, refusing, sound


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Outer:
    count: int = 0
    seconds: float | None = None
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@given(st.integers(1, 200), st.booleans())
def test_64_levels_are_read_and_more_are_not(levels, are_lists):
    start, end = ("[", "]") if are_lists else ('{"a":', "}")
    text = start * levels + "1" + end * levels
    if levels <= 64:
        read_json(text)
    else:
        with pytest.raises(ValueError, match="deeper than 64"):
            read_json(text)


def test_an_empty_innermost_level_counts():
    read_json("[" * 64 + "]" * 64)
    with pytest.raises(ValueError, match="deeper than 64"):
        read_json("[" * 65 + "]" * 65)


def test_brackets_side_by_side_or_in_text_are_no_levels():
    assert read_json("[" + ",".join(["[]"] * 100) + "]") == [[]] * 100
    assert read_json('["' + "[{" * 100 + '"]') == ["[{" * 100]


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "1" * 5_000, b"\xff", b'"\xed\xa0\x80"', "\ufeff1"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize(
    "record",
    [
        Outer(),
        Outer(count=-(2**63), seconds=1, names=("a", "b"), inner=Inner("a"), inners=(Inner("\ud800"),)),
        Outer(seconds=0.5, tags={"a": "b"}, at=datetime(2, 1, 1, tzinfo=timezone(timedelta(hours=23)))),
    ],
)
def test_a_record_as_declared_is_given_back(record):
    assert sound(record) is record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", True),
        ("count", 1.0),
        ("count", 2**63),
        ("count", None),
        ("seconds", "1"),
        ("seconds", float("nan")),
        ("seconds", float("inf")),
        ("seconds", 10**400),
        ("names", ["a"]),
        ("names", ("a", 1)),
        ("names", "a"),
        ("inner", "a"),
        ("inner", Inner(1)),  # type: ignore[arg-type] # that it is none is the point
        ("inners", (Inner("a"), Inner(None))),  # type: ignore[arg-type] # that it is none is the point
        ("tags", {"a": 1}),
        ("tags", {1: "a"}),
        ("tags", [("a", "b")]),
        ("at", datetime(2026, 1, 2)),  # noqa: DTZ001 - that it has no zone is the point
        ("at", datetime.min.replace(tzinfo=UTC)),
        ("at", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_field_that_is_not_as_declared_is_refused_by_its_name(name, value):
    with pytest.raises(ValueError, match=f"not a Outer: see {name}"):
        sound(Outer(**{name: value}))


@pytest.mark.parametrize(
    "error", [AttributeError("x"), KeyError("x"), IndexError("x"), TypeError("x"), OverflowError()]
)
def test_a_value_of_another_shape_is_refused_as_what_it_is_not(error):
    with pytest.raises(ValueError, match="not a report"), refusing("a report"):
        raise error
