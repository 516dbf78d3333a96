"""Run ids that nobody chose are short, sort by time, and can be parts of keys and file names."""

import pytest

from rollforward.cli.run_id import RunIdRefused, checked_run_id, new_run_id


def test_new_ids_differ_and_are_accepted():
    ids = {new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(checked_run_id(run_id) == run_id and len(run_id) == 16 for run_id in ids)


def test_ids_sort_by_time(monkeypatch):
    times = iter([1, 10**18, 10**18 + 10**6, 2 * 10**18])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    ids = [new_run_id() for _ in range(4)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("run_id", ["", "a b", "../x", "a/b", "{a}", "-a", "a" * 65, "é"])
def test_other_ids_are_refused(run_id):
    with pytest.raises(RunIdRefused):
        checked_run_id(run_id)
