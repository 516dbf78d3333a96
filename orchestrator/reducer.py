"""How an update meets what a field held before."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import CompileError

Combine = Callable[[Any, Any], Any]
KeyReader = str | Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Reducer:
    """A pure function of what a field held and of the update.

    It must not change the prior value. It refuses an update by raising. `is_round_trip_idempotent` says whether
    merging a field's own value into it again leaves it as it was; None where that is not known. `configuration` tells
    two reducers of one name apart, in a graph's fingerprint.
    """

    name: str
    combine: Combine = field(compare=False)
    is_round_trip_idempotent: bool | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __call__(self, prior: Any, update: Any) -> Any:
        return self.combine(prior, update)


def read_key(item: Any, key: KeyReader) -> Any:
    """What `key` says about an item: a function of it, or the name of its field."""
    if callable(key):
        return key(item)
    return item[key] if isinstance(item, Mapping) else getattr(item, key)


def _sequence(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"the {what} is a {type(value).__name__}, not a list")
    return value


def _mapping(value: Any, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"the {what} is a {type(value).__name__}, not a mapping")
    return value


def _replace(_prior: Any, update: Any) -> Any:
    return update


def _append(prior: Any, update: Any) -> Any:
    return [*_sequence(prior, "value so far"), *_sequence(update, "update")]


def _merge(prior: Any, update: Any) -> Any:
    return {**_mapping(prior, "value so far"), **_mapping(update, "update")}


def _concat_flatten(prior: Any, update: Any) -> Any:
    added = [item for part in _sequence(update, "update") for item in _sequence(part, "update's element")]
    return [*_sequence(prior, "value so far"), *added]


def _merge_all(prior: Any, update: Any) -> Any:
    merged = dict(_mapping(prior, "value so far"))
    for part in _sequence(update, "update"):
        merged.update(_mapping(part, "update's element"))
    return merged


last_write_wins = Reducer("last_write_wins", _replace, is_round_trip_idempotent=True)
"""The update replaces the value."""

append = Reducer("append", _append, is_round_trip_idempotent=False)
"""The update's items come behind the list's."""

merge = Reducer("merge", _merge, is_round_trip_idempotent=True)
"""The update's keys are set in the mapping; other keys stay."""

concat_flatten = Reducer("concat_flatten", _concat_flatten, is_round_trip_idempotent=False)
"""The update is a list of lists, whose items come behind the list's."""

merge_all = Reducer("merge_all", _merge_all, is_round_trip_idempotent=False)
"""The update is a list of mappings, merged one after the other."""


def bounded_append(max_len: int) -> Reducer:
    """`append` that keeps the last `max_len` items. An empty update leaves a longer list as it is.

    Raises:
        CompileError: `reducer_configuration_invalid`: `max_len` is no whole number from 1.
    """
    if not isinstance(max_len, int) or isinstance(max_len, bool) or max_len < 1:
        raise _invalid(f"bounded_append(max_len={max_len!r}): pass a whole number from 1")

    def combine(prior: Any, update: Any) -> Any:
        joined = _append(prior, update)
        return joined[-max_len:] if update else joined

    return Reducer("bounded_append", combine, is_round_trip_idempotent=False, configuration={"max_len": max_len})


def dedupe_append(key: KeyReader | None = None) -> Reducer:
    """`append` of items that are not there yet, by `key` or as a whole; the first one wins.

    Args:
        key: a function of the item, or the name of its field.

    Raises:
        CompileError: `reducer_configuration_invalid`: `key` is neither.
    """
    if key is not None:
        _check_key("dedupe_append", key)

    def combine(prior: Any, update: Any) -> Any:
        kept = list(_sequence(prior, "value so far"))
        seen = _Seen(item if key is None else read_key(item, key) for item in kept)
        kept += [item for item in _sequence(update, "update") if seen.add(item if key is None else read_key(item, key))]
        return kept

    return Reducer("dedupe_append", combine, is_round_trip_idempotent=True, configuration={"key": key})


def merge_by_key(key: KeyReader) -> Reducer:
    """Items of the update replace those of the same key in place, the last one of several; others come behind.

    Args:
        key: a function of the item, or the name of its field. Its values are hashable.

    Raises:
        CompileError: `reducer_configuration_invalid`: `key` is neither.
    """
    _check_key("merge_by_key", key)

    def combine(prior: Any, update: Any) -> Any:
        merged = list(_sequence(prior, "value so far"))
        places = {read_key(item, key): place for place, item in enumerate(merged)}
        for item in _sequence(update, "update"):
            place = places.setdefault(read_key(item, key), len(merged))
            merged[place : place + 1] = [item]
        return merged

    return Reducer("merge_by_key", combine, is_round_trip_idempotent=True, configuration={"key": key})


FACTORIES: tuple[Callable[..., Reducer], ...] = (bounded_append, dedupe_append, merge_by_key)
"""What makes a reducer, and is none itself."""


class _Seen:
    """Values by equality, fast for those that can be hashed."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._hashed: set[Any] = set()
        self._others: list[Any] = []
        for value in values:
            self.add(value)

    def add(self, value: Any) -> bool:
        """Take note of a value; true where it is the first of its kind."""
        try:
            is_new = value not in self._hashed
            self._hashed.add(value)
        except TypeError:
            is_new = value not in self._others
            if is_new:
                self._others.append(value)
        return is_new


def _check_key(reducer: str, key: Any) -> None:
    if not callable(key) and not (isinstance(key, str) and key):
        raise _invalid(f"{reducer}(key={key!r}): pass a function of the item, or the name of its field")


def _invalid(message: str) -> CompileError:
    return CompileError("reducer_configuration_invalid", message)
