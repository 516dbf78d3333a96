import dataclasses
import json
import math
import os
import subprocess
import sys
from collections import Counter, OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PrivateAttr, computed_field, create_model

from orchestrator.closed_type import is_closed
from orchestrator.codec import Codec
from orchestrator.errors import StateNotSerializable, StateValidationError
from orchestrator.reducer import append
from orchestrator.state import State

ROOT = Path(__file__).parents[2]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str = ""
    weights: dict[int, float] = {}
    next: "Part | None" = None


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"


class Square(BaseModel):
    kind: Literal["square"] = "square"


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Everything(State):
    text: str = ""
    number: int = 0
    share: float = 0.0
    flag: bool = False
    raw: bytes = b""
    when: datetime | None = None
    day: date | None = None
    hour: time | None = None
    span: timedelta = timedelta(0)
    price: Decimal = Decimal(0)
    id: UUID | None = None
    colour: Colour = Colour.RED
    pair: tuple[int, str] = (0, "")
    names: set[str] = set()
    codes: frozenset[int] = frozenset()
    by_number: dict[int, list[bytes]] = {}
    part: Part = Part()
    shape: Annotated[Circle | Square, Field(discriminator="kind")] = Circle()
    log: Annotated[list[str], append] = []
    either: int | str | None = None
    point: Point | None = None
    open: Any = None
    mapping: dict[str, Any] = {}
    things: list[Any] = []


codec = Codec.of(Everything)
# A slow machine is no fault of the codec's.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
nothing_odd = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | nothing_odd,
    lambda inner: st.lists(inner) | st.dictionaries(nothing_odd, inner),
    max_leaves=8,
)
parts = st.builds(
    Part, name=nothing_odd, weights=st.dictionaries(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
)
states = st.builds(
    Everything,
    text=nothing_odd,
    number=st.integers(),
    share=st.floats(),
    flag=st.booleans(),
    raw=st.binary(),
    when=st.none() | st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda moment: moment.replace(fold=0)),
    day=st.none() | st.dates(),
    hour=st.none() | st.times(),
    span=st.timedeltas(timedelta(days=-9999), timedelta(days=9999)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    id=st.none() | st.uuids(),
    colour=st.sampled_from(Colour),
    pair=st.tuples(st.integers(), nothing_odd),
    names=st.sets(nothing_odd),
    codes=st.frozensets(st.integers()),
    by_number=st.dictionaries(st.integers(), st.lists(st.binary())),
    part=parts,
    shape=st.builds(Circle) | st.builds(Square),
    log=st.lists(nothing_odd),
    either=st.none() | st.integers() | nothing_odd,
    point=st.none() | st.builds(Point, st.integers(), json_values),
    open=json_values,
    mapping=st.dictionaries(nothing_odd, json_values),
    things=st.lists(json_values),
)


def refusal(**values: Any) -> StateNotSerializable:
    with pytest.raises(StateNotSerializable) as refused:
        codec.dump_fields(values)
    return refused.value


@unhurried
@given(states)
def test_what_is_written_is_strict_json_and_comes_back_the_same(state):
    text = codec.dump(state)
    json.loads(text, parse_constant=pytest.fail)
    # NaN is not equal to itself, so that texts are compared.
    assert codec.dump(codec.load(text)) == text


@unhurried
@given(json_values)
def test_plain_json_values_pass_where_anything_may_stand(value):
    back = codec.load_fields(codec.dump_fields({"open": value}))["open"]
    assert repr(back) == repr(value)


odd_values = st.recursive(
    st.integers() | st.floats() | st.binary() | st.datetimes() | st.decimals() | st.sampled_from(Colour) | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.integers() | nothing_odd, inner)
        | st.builds(Point, st.integers(), inner)
    ),
    max_leaves=4,
)


@unhurried
@given(odd_values)
def test_where_anything_may_stand_a_value_comes_back_the_same_or_is_refused(value):
    try:
        text = codec.dump_fields({"open": value})
    except StateNotSerializable as refused:
        assert refused.field == "open"
    else:
        assert repr(codec.load_fields(text)["open"]) == repr(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((1, 2), "tuple comes back as list"),
        ({1: "a"}, "in a key, int comes back as str"),
        ({"a": [datetime(2026, 1, 1, tzinfo=UTC)]}, "at 'a', at 0, datetime comes back as str"),
        ({"a": {1, 2}}, "at 'a', set comes back as list"),
        (b"raw", "bytes comes back as str"),
        (math.nan, "float comes back as str"),
        (Part(), "Part comes back as dict"),
        (Colour.RED, "Colour comes back as str"),
        (object(), "object"),
        ("\ud800", "surrogate"),
        (10**5000, "cannot be read again"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else type(value).__name__,
)
def test_what_json_cannot_carry_is_refused_with_the_field_and_the_reason(value, reason):
    refused = refusal(text="fine", open=value)
    assert refused.field == "open"
    assert reason in refused.reason


class Level(IntEnum):
    HIGH = 1


@pytest.mark.parametrize("value", [OrderedDict(a=1), Counter(a=1), Level.HIGH, [Level.HIGH], {Level.HIGH: 1}], ids=repr)
def test_where_anything_may_stand_an_equal_value_of_another_type_is_refused(value):
    assert refusal(open=value).field == "open"


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, True),
        (Colour, True),
        (Literal["a", "b"], True),
        (dict[int, list[bytes]], True),
        (tuple[int, ...], True),
        (str | None, True),
        (Annotated[int, Field(gt=0)], True),
        (Circle, True),
        (Part, True),
        (Any, False),
        (list, False),
        (list[Any], False),
        (dict[str, Any], False),
        (int | float, False),
        (list[Decimal | float] | None, False),
        (Point, False),
        (object, False),
        (TypeVar("Unbound"), False),
        (Annotated[int, PlainSerializer(str)], False),
        (create_model("Open", __config__=ConfigDict(extra="allow")), False),
        (create_model("Holder", one=(list[Any], [])), False),
    ],
    ids=repr,
)
def test_a_type_is_closed_where_equal_values_have_one_type(annotation, expected):
    assert is_closed(annotation) is expected


def test_values_that_hold_themselves_are_refused():
    circle: list[Any] = []
    circle.append(circle)
    assert refusal(things=circle).field == "things"


def test_a_value_that_does_not_fit_its_field_is_refused_without_being_shown():
    with pytest.raises(StateValidationError, match="text") as refused:
        codec.dump_fields({"number": 3, "text": ["secret"]})
    assert refused.value.fields == ("text",)
    assert "secret" not in str(refused.value)


def test_a_value_becomes_what_its_field_declares():
    text = codec.dump_fields({"number": "3", "part": {"name": "a"}, "shape": {"kind": "square"}})
    assert codec.load_fields(text) == {"number": 3, "part": Part(name="a"), "shape": Square()}


def test_a_constraint_is_kept_before_a_value_is():
    class Bounded(State):
        count: Annotated[int, Field(gt=0)] = 1

    with pytest.raises(StateValidationError, match="greater than 0"):
        Codec.of(Bounded).dump_fields({"count": 0})


def test_a_subclass_of_a_nested_model_is_refused_and_not_cut():
    class Heavy(Part):
        mass: int = 3

    assert refusal(part=Heavy()).field == "part"


def test_private_attributes_of_a_nested_model_are_refused_and_not_lost():
    class Secretive(BaseModel):
        _seen: int = PrivateAttr(default=0)

    class Keeper(State):
        one: Secretive = Secretive()

    holder = Keeper()
    assert Codec.of(Keeper).dump(holder) == '{"one":{}}'
    holder.one._seen = 1
    with pytest.raises(StateNotSerializable):
        Codec.of(Keeper).dump(holder)


def test_a_union_member_that_comes_back_as_another_is_refused():
    class Loose(State):
        value: float | str = 0.0

    assert Codec.of(Loose).dump(Loose(value=1.5)) == '{"value":1.5}'
    with pytest.raises(StateNotSerializable):
        Codec.of(Loose).dump(Loose(value=math.inf))


def test_nan_and_infinity_come_back_where_a_number_is_declared():
    loaded = codec.load(codec.dump(Everything(share=math.nan, part=Part())))
    assert math.isnan(loaded.share)
    assert codec.load_fields(codec.dump_fields({"share": -math.inf})) == {"share": -math.inf}


def test_a_model_of_the_users_own_is_advised_how_to_carry_nan_and_bytes():
    assert "derive the model from State" in refusal(part=Part(weights={1: math.nan})).reason

    class Inner(State):
        raw: bytes = b""
        share: float = 0.0

    class Outer(State):
        inner: list[Inner] = []

    state = Outer(inner=[Inner(raw=b"\xff", share=-math.inf)])
    assert Codec.of(Outer).load(Codec.of(Outer).dump(state)) == state


def test_bytes_are_base64():
    assert codec.dump_fields({"raw": b"\xff\xfe"}) == '{"raw":"__4="}'


def test_fields_are_written_in_the_order_of_the_class():
    assert codec.dump_fields({"number": 1, "text": "a"}) == '{"text":"a","number":1}'


def test_sets_are_written_in_order():
    class Sets(State):
        names: set[str] = set()
        groups: dict[str, list[frozenset[str]]] = {}
        bare: set = set()  # type: ignore[type-arg]
        maybe: frozenset[str | int] | None = None

    names = {"b", "a", "c"}
    state = Sets(names=names, groups={"g": [frozenset(names)]}, bare=names, maybe=frozenset({"z", 3, "y"}))
    assert Codec.of(Sets).dump(state) == (
        '{"names":["a","b","c"],"groups":{"g":[["a","b","c"]]},"bare":["a","b","c"],"maybe":["y","z",3]}'
    )


def test_text_is_the_same_in_every_process():
    program = (
        "from orchestrator.codec import Codec; from orchestrator.state import State\n"
        "class S(State):\n    names: set[str] = set('abcdefgh')\n    by: dict[str, set[str]] = {'x': set('xyz')}\n"
        "print(Codec.of(S).dump(S()))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


def test_unknown_fields_are_refused_by_name():
    with pytest.raises(StateValidationError, match="'titel'") as refused:
        codec.dump_fields({"titel": 1})
    assert refused.value.fields == ("titel",)
    with pytest.raises(StateValidationError) as refused:
        codec.load_fields('{"titel":1}')
    assert refused.value.fields == ("titel",)


def test_what_does_not_fit_any_more_is_refused_with_its_fields():
    with pytest.raises(StateValidationError, match="number") as refused:
        codec.load('{"number":"many","share":[]}')
    assert refused.value.fields == ("number", "share")
    with pytest.raises(StateValidationError):
        codec.load("not json")


def test_fields_that_a_text_leaves_out_have_their_default():
    assert codec.load("{}") == Everything()
    assert codec.load_fields("{}") == {}


def test_a_state_of_a_subclass_is_written_as_the_declared_class():
    class Declared(State):
        total: int = 0

    class Runtime(Declared):
        more: str = "x"

    text = Codec.of(Declared).dump(Runtime(total=3))
    assert text == '{"total":3}'
    assert type(Codec.of(Declared).load(text)) is Declared


def test_aliases_and_computed_fields_are_not_kept():
    class Shown(State):
        title: str = Field(default="", alias="headline")

        @computed_field  # type: ignore[prop-decorator]
        @property
        def length(self) -> int:
            return len(self.title)

    text = Codec.of(Shown).dump(Shown(headline="abc"))
    assert text == '{"title":"abc"}'
    assert Codec.of(Shown).load(text).title == "abc"


def test_computed_fields_of_nested_states_are_not_kept():
    class Inner(State):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def length(self) -> int:
            return 3

    class Outer(State):
        inner: Inner = Inner()

    assert Codec.of(Outer).dump(Outer()) == '{"inner":{}}'


def test_a_class_has_one_codec():
    assert Codec.of(Everything) is codec
