"""How fast reports come in, and how soon that is forgotten."""

import pytest

from orchestrator.fan_out.pace import Pace


def test_a_steady_stream_has_its_rate():
    pace = Pace()
    for turn in range(400):
        rate = pace.note(5, turn / 100)
    assert rate == pytest.approx(500, rel=0.02)


def test_what_stopped_a_while_ago_counts_for_nothing():
    pace = Pace()
    pace.note(1000, 0.0)
    assert pace.note(0, 10.0) == pytest.approx(0, abs=0.01)
