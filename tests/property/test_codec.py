"""Whatever a schema allows: a state comes back equal, or is refused by its field's name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, create_model

from orchestrator.codec import Codec
from orchestrator.errors import StateNotSerializable, StateValidationError
from orchestrator.state import State

EXAMPLES = int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "150"))
DEPTH = 2
MINUTES_OF_A_DAY = 24 * 60

random_schemas = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Size(StrEnum):
    SMALL = "s"


class Code(Enum):
    """As keys of a JSON object, the first two look the same."""

    NUMBER = 1
    TEXT = "1"
    OTHER = 2


@dataclass(frozen=True)
class Kind:
    """A type, and values of it."""

    annotation: Any
    values: st.SearchStrategy[Any]


Kinds = st.SearchStrategy[Kind]
Drawn = tuple[type[State], dict[str, Any]]

offsets = st.integers(1 - MINUTES_OF_A_DAY, MINUTES_OF_A_DAY - 1).map(lambda count: timezone(timedelta(minutes=count)))
texts = st.text(st.characters(exclude_categories=["Cs"]))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)

KEYS = (
    Kind(str, texts),
    Kind(int, st.integers()),
    Kind(bool, st.booleans()),
    Kind(bytes, st.binary()),
    Kind(datetime, st.datetimes(timezones=st.none() | offsets).map(lambda moment: moment.replace(fold=0))),
    Kind(date, st.dates()),
    Kind(time, st.times(timezones=st.none() | offsets)),
    Kind(timedelta, st.timedeltas()),
    Kind(Decimal, decimals),
    Kind(UUID, st.uuids()),
    Kind(Colour, st.sampled_from(Colour)),
    Kind(Rank, st.sampled_from(Rank)),
    Kind(Size, st.sampled_from(Size)),
    Kind(Literal["a", "b"], st.sampled_from(["a", "b"])),
)
MEMBERS = (
    *KEYS,
    Kind(type(None), st.none()),
    Kind(Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    Kind(Literal[Rank.LOW, Size.SMALL], st.sampled_from([Rank.LOW, Size.SMALL])),
)
ATOMS = (*MEMBERS, Kind(Code, st.sampled_from(Code)), Kind(float, st.floats()), Kind(Any, json_values))
ODD = (
    Kind(str, st.text()),
    Kind(list[int | float], st.lists(st.integers() | st.floats())),
    Kind(list[Size | str], st.lists(st.sampled_from([Size.SMALL, "s"]))),
    Kind(tuple[Decimal | str, ...], st.lists(decimals | decimals.map(str)).map(tuple)),
    Kind(Literal[Colour.RED, "a"], st.sampled_from([Colour.RED, "a"])),
    Kind(Any, st.binary() | st.dates() | decimals | st.sampled_from([*Rank, *Colour]) | st.tuples(json_values)),
    Kind(dict[Any, Any], st.dictionaries(st.integers() | texts | st.sampled_from(Rank), json_values)),
    Kind(list[Any], st.lists(st.floats() | st.uuids() | st.sets(st.integers()))),
    Kind(datetime, st.datetimes(timezones=st.timezones(), allow_imaginary=False)),
    Kind(time, st.times(timezones=st.integers(-86399, 86399).map(lambda count: timezone(timedelta(seconds=count))))),
    Kind(set[float], st.sets(st.floats())),
    Kind(dict[float, int], st.dictionaries(st.floats(), st.integers())),
    Kind(dict[str | None, int], st.dictionaries(texts | st.none(), st.integers())),
    Kind(dict[tuple[int, int], int], st.dictionaries(st.tuples(st.integers(), st.integers()), st.integers())),
    Kind(dict[Code, int], st.dictionaries(st.sampled_from(Code), st.integers())),
)


def carried(depth: int) -> Kinds:
    """Types whose every value JSON can carry."""
    atoms = st.sampled_from(ATOMS)
    if depth == 0:
        return atoms
    return atoms | _around(carried(depth - 1), State)


def any_kind(depth: int) -> Kinds:
    """Types of which some values may have to be refused."""
    atoms = st.sampled_from(ATOMS) | st.sampled_from(ODD)
    if depth == 0:
        return atoms
    inner = any_kind(depth - 1)
    return (
        atoms | _around(inner, State) | _around(inner, BaseModel) | st.lists(inner, min_size=2, max_size=3).map(_union)
    )


def _around(inner: Kinds, model: type[BaseModel]) -> Kinds:
    return st.one_of(
        inner.map(lambda kind: _union([kind, Kind(type(None), st.none())])),
        inner.map(lambda kind: Kind(_of(list, kind), st.lists(kind.values, max_size=3))),
        inner.map(lambda kind: Kind(_of(tuple, kind, ...), st.lists(kind.values, max_size=3).map(tuple))),
        st.lists(inner, min_size=1, max_size=3).map(_tuple),
        st.builds(_dict, st.sampled_from(KEYS), inner),
        _members().map(lambda kind: Kind(_of(set, kind), st.sets(kind.values, max_size=3))),
        _members().map(lambda kind: Kind(_of(frozenset, kind), st.frozensets(kind.values, max_size=3))),
        st.lists(inner, max_size=2).map(lambda kinds: _model(kinds, model)),
        st.lists(inner, min_size=2, max_size=2).map(lambda kinds: _tagged(kinds, model)),
    )


def _members() -> Kinds:
    members = st.sampled_from(MEMBERS)
    return members | members.map(lambda kind: Kind(_of(tuple, kind, ...), st.lists(kind.values, max_size=2).map(tuple)))


def _of(container: Any, *inner: Any) -> Any:
    return container[tuple(one.annotation if isinstance(one, Kind) else one for one in inner)]


def _tuple(kinds: list[Kind]) -> Kind:
    return Kind(_of(tuple, *kinds), st.tuples(*(kind.values for kind in kinds)))


def _dict(key: Kind, value: Kind) -> Kind:
    return Kind(_of(dict, key, value), st.dictionaries(key.values, value.values, max_size=3))


def _union(kinds: list[Kind]) -> Kind:
    annotation = kinds[0].annotation
    for kind in kinds[1:]:
        annotation = annotation | kind.annotation
    return Kind(annotation, st.one_of(*(kind.values for kind in kinds)))


def _model(kinds: list[Kind], base: type[BaseModel], **fixed: Any) -> Kind:
    drawn = {f"part{place}": kind for place, kind in enumerate(kinds)}
    model = _class("Model", base, {**{name: (kind.annotation, ...) for name, kind in drawn.items()}, **fixed})
    return Kind(model, st.builds(model, **{name: kind.values for name, kind in drawn.items()}))


def _tagged(kinds: list[Kind], base: type[BaseModel]) -> Kind:
    models = [
        _model([kind], base, kind=(Literal[cast("Any", tag)], tag)) for tag, kind in zip("ab", kinds, strict=True)
    ]
    union = _union(models)
    return Kind(Annotated[union.annotation, Field(discriminator="kind")], union.values)


def _class(name: str, base: type[BaseModel], fields: dict[str, Any]) -> Any:
    make: Callable[..., Any] = create_model
    return make(name, __base__=base, **fields)


@st.composite
def drawn(draw: st.DrawFn, kinds: Kinds) -> Drawn:
    """A class of states, and values of its fields."""
    fields = {f"field{place}": kind for place, kind in enumerate(draw(st.lists(kinds, min_size=1, max_size=6)))}
    state_class = _class("Schema", State, {name: (kind.annotation, ...) for name, kind in fields.items()})
    return state_class, {name: draw(kind.values) for name, kind in fields.items()}


def plain(value: Any) -> Any:
    """A value with its types, so that only what is the same is equal; of a zone, what it says at that time."""
    tell = next((tell for kind, tell in TOLD if isinstance(value, kind)), None)
    return type(value), value if tell is None else tell(value)


def _at(value: Any) -> Any:
    return value.replace(tzinfo=None, fold=0), value.utcoffset()


def _each(values: Any) -> Any:
    return [plain(one) for one in values]


TOLD: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (float, float.hex),
    (Decimal, Decimal.as_tuple),
    (datetime | time, _at),
    (list | tuple, _each),
    (set | frozenset, lambda value: sorted(map(plain, value), key=repr)),
    (dict, lambda value: _each(value.items())),
    (BaseModel, _each),
)
OTHER_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (bool, int),
    (int | float | Decimal | UUID, str),
    (bytes, bytearray),
    (date | time, lambda value: value.isoformat()),
    (timedelta, timedelta.total_seconds),
    (list | set | frozenset, tuple),
    (tuple, list),
    (BaseModel, dict),
)


@st.composite
def rough(draw: st.DrawFn, value: Any) -> Any:
    """A value as a node or a middleware may give it, which its field has yet to make its own."""
    if isinstance(value, list | tuple):
        value = type(value)(draw(rough(one)) for one in value)
    elif isinstance(value, dict):
        value = {key: draw(rough(one)) for key, one in value.items()}
    form = next((form for kind, form in OTHER_FORMS if isinstance(value, kind)), None)
    return value if form is None or draw(st.booleans()) else form(value)


@random_schemas
@given(drawn(carried(DEPTH)))
def test_what_json_can_carry_comes_back_the_same(case: Drawn):
    state_class, values = case
    codec, state = Codec(state_class), state_class(**values)
    assert plain(codec.load(codec.dump(state))) == plain(state)
    for name, value in state:
        assert plain(codec.load_fields(codec.dump_fields({name: value}))) == plain({name: value})


@random_schemas
@given(drawn(any_kind(DEPTH)))
def test_a_state_comes_back_the_same_or_is_refused_by_the_name_of_its_field(case: Drawn):
    state_class, values = case
    codec, state = Codec(state_class), state_class(**values)
    refused = {name for name, value in state if comes_back(codec, {name: value}) is not None}
    try:
        text = codec.dump(state)
    except StateNotSerializable as error:
        assert error.category == "state_not_serializable"
        assert error.field in refused
    else:
        assert plain(codec.load(text)) == plain(state)
        assert refused == set()


def comes_back(codec: Codec[Any], update: dict[str, Any]) -> str | None:
    """See that a partial update comes back the same; the name of the field, where it is refused."""
    try:
        text = codec.dump_fields(update)
    except StateNotSerializable as error:
        assert error.field in update
        return error.field
    assert plain(codec.load_fields(text)) == plain(update)
    return None


@random_schemas
@given(drawn(any_kind(DEPTH)), st.data())
def test_what_a_node_gives_comes_back_as_its_field_makes_it_or_is_refused(case: Drawn, data: st.DataObject):
    state_class, values = case
    codec, raw = Codec(state_class), {name: data.draw(rough(value)) for name, value in values.items()}
    try:
        text = codec.dump_fields(raw)
    except (StateNotSerializable, StateValidationError):
        return
    assert plain(codec.load_fields(text)) == plain(dict(state_class(**raw)))


@random_schemas
@given(drawn(carried(DEPTH)), st.data())
def test_what_a_node_gives_is_refused_only_where_a_state_with_it_is(case: Drawn, data: st.DataObject):
    state_class, values = case
    codec, raw = Codec(state_class), {name: data.draw(rough(value)) for name, value in values.items()}
    try:
        codec.dump_fields(raw)
    except StateNotSerializable as error:
        typed = getattr(state_class(**raw), error.field)
        assert comes_back(codec, {error.field: typed}) == error.field
    except StateValidationError as error:
        with pytest.raises(ValidationError):
            state_class(**{name: raw[name] for name in error.fields})
