import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import CompileError
from orchestrator.reducer import (
    Reducer,
    append,
    bounded_append,
    concat_flatten,
    dedupe_append,
    last_write_wins,
    merge,
    merge_all,
    merge_by_key,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CASES: list[tuple[str, Reducer, Any, Any, Any]] = [
    ("last write wins", last_write_wins, "old", "new", "new"),
    ("append keeps order", append, ["seed"], ["x", "y"], ["seed", "x", "y"]),
    ("append takes a tuple", append, ["seed"], ("x",), ["seed", "x"]),
    ("merge: the later key wins", merge, {"a": 1, "b": 1}, {"b": 2, "c": 2}, {"a": 1, "b": 2, "c": 2}),
    ("concat_flatten flattens one level", concat_flatten, [1], [[2, [3]], [], [4]], [1, 2, [3], 4]),
    ("concat_flatten: an empty update changes nothing", concat_flatten, [1], [], [1]),
    ("merge_all folds mappings", merge_all, {"s": 0}, [{"a": 1}, {"s": 2}, {"a": 3}], {"s": 2, "a": 3}),
    ("merge_all: an empty update changes nothing", merge_all, {"s": 0}, [], {"s": 0}),
    ("merge_all: empty mappings change nothing", merge_all, {"s": 0}, [{}, {}], {"s": 0}),
    ("bounded_append drops the oldest", bounded_append(3), ["a"], ["b", "c", "d"], ["b", "c", "d"]),
    ("bounded_append: a long update replaces all", bounded_append(2), [1, 2], [3, 4, 5, 6], [5, 6]),
    ("bounded_append: an empty update keeps a longer list", bounded_append(1), [1, 2, 3], [], [1, 2, 3]),
    ("dedupe_append: the first wins", dedupe_append(), ["seed"], ["seed", "a", "b", "a"], ["seed", "a", "b"]),
    ("dedupe_append compares what has no hash", dedupe_append(), [{"a": 1}], [{"a": 1}, {}, {}], [{"a": 1}, {}]),
    (
        "dedupe_append by a field",
        dedupe_append("id"),
        [{"id": 1, "v": "a"}],
        [{"id": 1, "v": "z"}, {"id": 2, "v": "b"}, {"id": 2, "v": "c"}],
        [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}],
    ),
    (
        "merge_by_key replaces in place and appends the rest",
        merge_by_key("id"),
        [{"id": 1, "s": "p"}, {"id": 2, "s": "p"}],
        [{"id": 1, "s": "d"}, {"id": 3, "s": "r"}, {"id": 2, "s": "e"}, {"id": 4, "s": "q"}],
        [{"id": 1, "s": "d"}, {"id": 2, "s": "e"}, {"id": 3, "s": "r"}, {"id": 4, "s": "q"}],
    ),
    (
        "merge_by_key: the last of equal keys counts",
        merge_by_key(lambda item: item["id"]),
        [{"id": 1, "v": "old-a"}, {"id": 1, "v": "old-b"}, {"id": 2, "v": "old-c"}],
        [{"id": 1, "v": "new-b"}, {"id": 2, "v": "new-c1"}, {"id": 2, "v": "new-c2"}, {"id": 3}, {"id": 3, "v": 2}],
        [{"id": 1, "v": "old-a"}, {"id": 1, "v": "new-b"}, {"id": 2, "v": "new-c2"}, {"id": 3, "v": 2}],
    ),
]

REFUSED: list[tuple[str, Reducer, Any, Any]] = [
    ("append: an update that is no list", append, [], "text"),
    ("append: a value that is no list", append, None, ["a"]),
    ("merge: an update that is no mapping", merge, {}, ["a"]),
    ("concat_flatten: an element that is no list", concat_flatten, [], [["a"], None]),
    ("merge_all: an element that is no mapping", merge_all, {}, [{"k": 1}, "not a mapping"]),
    ("merge_all: an update that is a mapping", merge_all, {}, {"k": 1}),
    ("bounded_append: an update that is no list", bounded_append(3), [], "abc"),
    ("dedupe_append: an item without the key", dedupe_append("id"), [], [{"name": 1}]),
    ("merge_by_key: an item without the key", merge_by_key("id"), [], [{"name": 1}]),
]


@pytest.mark.parametrize(
    ("reducer", "prior", "update", "after"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_reducers_combine(reducer, prior, update, after):
    kept_prior, kept_update = copy.deepcopy(prior), copy.deepcopy(update)
    assert reducer(prior, update) == after
    assert (prior, update) == (kept_prior, kept_update), "a reducer changes neither of its arguments"


@pytest.mark.parametrize(("reducer", "prior", "update"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_reducers_refuse(reducer, prior, update):
    with pytest.raises((TypeError, KeyError)):
        reducer(prior, update)


@pytest.mark.parametrize("max_len", [0, -1, True, "3", None, 2.0])
def test_a_bound_below_one_does_not_compile(max_len):
    with pytest.raises(CompileError) as refused:
        bounded_append(max_len)
    assert refused.value.category == "reducer_configuration_invalid"


@pytest.mark.parametrize(("factory", "key"), [(merge_by_key, None), (merge_by_key, ""), (dedupe_append, 3)])
def test_a_key_that_reads_nothing_does_not_compile(factory, key):
    with pytest.raises(CompileError) as refused:
        factory(key)
    assert refused.value.category == "reducer_configuration_invalid"


@pytest.mark.parametrize("reducer", [last_write_wins, merge, dedupe_append(), merge_by_key("id")])
def test_idempotent_reducers_say_so(reducer):
    assert reducer.is_round_trip_idempotent is True


@pytest.mark.parametrize("reducer", [append, concat_flatten, merge_all, bounded_append(2)])
def test_reducers_that_are_not_idempotent_say_so(reducer):
    assert reducer.is_round_trip_idempotent is False


@unhurried
@given(st.lists(st.integers() | st.lists(st.integers())))
def test_dedupe_append_is_idempotent(items):
    reducer = dedupe_append()
    once = reducer([], items)
    assert reducer(once, once) == once


@unhurried
@given(st.lists(st.integers()), st.lists(st.integers(), min_size=1), st.integers(1, 5))
def test_bounded_append_keeps_the_last_items(prior, update, max_len):
    assert bounded_append(max_len)(prior, update) == (prior + update)[-max_len:]


def test_a_users_reducer_is_a_name_and_a_function():
    longest = Reducer("longest", lambda prior, update: max(prior, update, key=len))
    assert longest("aaa", "b") == "aaa"
    assert longest.is_round_trip_idempotent is None
