"""What others wrote, as values: JSON of bounded depth, and records whose fields are what they are declared to be."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import MAXYEAR, MINYEAR, datetime
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

DEEPEST = 64
LARGEST = 2**63

R = TypeVar("R")
Test = Callable[[Any], bool]


def read_json(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or nested deeper than 64 levels.
    """
    told = text.decode() if isinstance(text, bytes) else text
    try:
        value = _DECODER.decode(told)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    # Counting brackets is quick, and nearly every text has few.
    if told.count("[") + told.count("{") > DEEPEST and _is_too_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Raise ValueError for whatever a value of unknown shape makes go wrong inside."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"not {what}: {error!r}") from error


def read_time(text: str) -> datetime:
    """A time in ISO 8601.

    Raises:
        ValueError: it is none, or does not say its time zone.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{at} without a time zone")
    return at


def sound(record: R) -> R:
    """Give back a dataclass's instance, each field of which is what it is declared to be.

    Raises:
        ValueError: one is not. Numbers that no store takes, and times that no calendar has, are none either.
    """
    wrong = _wrong_field(record)
    if wrong is not None:
        raise ValueError(f"not a {type(record).__name__}: see {wrong}")
    return record


def _wrong_field(record: Any) -> str | None:
    kind: Any = type(record)
    return next((name for name, test in _tests(kind) if not test(getattr(record, name))), None)


@cache
def _tests(kind: Any) -> tuple[tuple[str, Test], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, _test(hints[field.name])) for field in fields(kind))


@cache
def _test(hint: Any) -> Test:
    """What tells whether a value is as the hint says."""
    origin = get_origin(hint)
    if origin is None:
        return _plain_test(hint)
    parts = [_test(part) for part in get_args(hint) if part is not ...]
    if origin in (Union, UnionType):
        return lambda value: any(test(value) for test in parts)
    if origin is tuple:
        (inner,) = parts
        return lambda value: type(value) is tuple and all(map(inner, value))
    if origin in (dict, Mapping):
        of_key, of_value = parts
        return lambda value: type(value) is dict and all(of_key(key) and of_value(value[key]) for key in value)
    raise TypeError(f"no test is known for {hint}")


def _plain_test(hint: Any) -> Test:
    known = _PLAIN.get(hint)
    if known is not None:
        return known
    if is_dataclass(hint):
        return lambda value: type(value) is hint and _wrong_field(value) is None
    return lambda value: isinstance(value, hint)


def _is_whole(value: Any) -> bool:
    return type(value) is int and -LARGEST <= value < LARGEST


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (type(value) is float and math.isfinite(value))


def _is_moment(value: Any) -> bool:
    # At the ends of the calendar, the same moment elsewhere is none.
    return isinstance(value, datetime) and value.tzinfo is not None and MINYEAR < value.year < MAXYEAR


def _is_too_deep(value: Any) -> bool:
    level = _containers([value])
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _containers(one.values() if isinstance(one, dict) else one)]
    return bool(level)


def _containers(values: Any) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_TOO_DEEP = f"nested deeper than {DEEPEST} levels"
_DECODER = json.JSONDecoder(parse_constant=_refuse)
_PLAIN: Mapping[Any, Test] = {int: _is_whole, float: _is_number, datetime: _is_moment}
