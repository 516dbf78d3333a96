"""How two values that should be the same are not."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from typing import Any

from pydantic import BaseModel

PLAIN = frozenset({str, int, bool, bytes, type(None)})
"""Types whose values are the same where they are equal."""


def difference(sent: Any, back: Any) -> str | None:
    """What became of a value on its way, in words; None where it came back with the same types and values.

    NaN is the same as NaN, and 1 is neither 1.0 nor True.
    """
    kind = type(sent)
    if kind is not type(back):
        return f"{kind.__name__} comes back as {type(back).__name__}"
    if kind in PLAIN:
        return _equal(sent, back)
    found = next((known for known in _COMPARE if issubclass(kind, known)), None)
    if found is not None:
        return _COMPARE[found](sent, back)
    return _dataclass(sent, back) if is_dataclass(sent) else _equal(sent, back)


def _equal(sent: Any, back: Any) -> str | None:
    return None if sent == back else f"{type(sent).__name__} comes back with another value"


def _float(sent: float, back: float) -> str | None:
    return None if math.isnan(sent) and math.isnan(back) else _equal(sent, back)


def _moment(sent: datetime | time, back: datetime | time) -> str | None:
    """A zone that has more than one offset is not what comes back: a day later, its clock may differ."""
    if sent.tzinfo is not None and sent.tzinfo.utcoffset(None) is None:
        return f"{type(sent).__name__} in the zone {sent.tzinfo} comes back with an offset only; keep it in UTC"
    if isinstance(sent, datetime) and sent.tzinfo is None and sent.fold:
        return "datetime comes back with another fold"
    return _equal(sent, back)


def _set(sent: Any, back: Any) -> str | None:
    counterparts = {member: member for member in back}
    if counterparts.keys() != sent:
        return _equal(sent, back)
    found = (difference(member, counterparts[member]) for member in sent)
    return next((f"in a set, {one}" for one in found if one is not None), None)


def _deque(sent: Any, back: Any) -> str | None:
    if sent.maxlen != back.maxlen:
        return "deque comes back without its length"
    return _sequence(sent, back)


def _sequence(sent: Any, back: Any) -> str | None:
    if len(sent) != len(back):
        return f"{type(sent).__name__} comes back with another length"
    for place, (one, other) in enumerate(zip(sent, back, strict=True)):
        found = difference(one, other)
        if found is not None:
            return f"at {place}, {found}"
    return None


def _mapping(sent: dict[Any, Any], back: dict[Any, Any]) -> str | None:
    if len(sent) != len(back):
        return "dict comes back with other keys"
    for (key, one), (key_back, other) in zip(sent.items(), back.items(), strict=True):
        found = difference(key, key_back)
        if found is not None:
            return f"in a key, {found}"
        found = difference(one, other)
        if found is not None:
            return f"at {key!r}, {found}"
    return None


def _model(sent: BaseModel, back: BaseModel) -> str | None:
    if sent.__pydantic_private__ != back.__pydantic_private__:
        return f"private attributes of {type(sent).__name__} do not come back"
    found = _attributes(type(sent).model_fields, sent, back)
    return found or difference(sent.__pydantic_extra__, back.__pydantic_extra__)


def _dataclass(sent: Any, back: Any) -> str | None:
    return _attributes((part.name for part in fields(sent)), sent, back)


def _attributes(names: Iterable[str], sent: Any, back: Any) -> str | None:
    listed = tuple(names)
    return _mapping({name: getattr(sent, name) for name in listed}, {name: getattr(back, name) for name in listed})


_COMPARE: dict[type, Callable[[Any, Any], str | None]] = {
    dict: _mapping,
    list: _sequence,
    float: _float,
    tuple: _sequence,
    BaseModel: _model,
    deque: _deque,
    set: _set,
    frozenset: _set,
    datetime: _moment,
    time: _moment,
}
