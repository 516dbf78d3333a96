"""How many messages a worker holds beyond what it runs."""

import pytest

from workers.prefetch import prefetch


@pytest.mark.parametrize(
    ("slots", "rate", "expected"),
    [(2, 0.0, 2), (2, 8.0, 2), (2, 10.0, 3), (2, 25.0, 4), (2, 600.0, 8), (16, 64.0, 22), (1, 1000.0, 4)],
)
def test_it_holds_what_it_works_off_in_a_moment(slots: int, rate: float, expected: int) -> None:
    assert prefetch(slots, rate) == expected
