"""A choice of the crash-point sweep; `make crashpoints` does all of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.crash.case import judged
from tests.chaos.crash.row import ROWS, names_of_points

ROOT = Path(__file__).parents[2]
LAYERS = ("orchestrator", "backends", "workers", "rollforward")
CHOSEN = (
    ("W3", "first"),
    ("W6", "middle"),
    ("W7", "middle"),
    ("O2", "first"),
    ("O6", "last"),
    ("O6", "batch"),
    ("O8", "only"),
)

pytestmark = pytest.mark.timeout(120)


def points_of_the_code() -> Iterator[str]:
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crashpoint":
                    yield ast.literal_eval(node.args[0])


def test_every_point_of_the_code_is_a_row_and_every_row_that_names_one_has_it() -> None:
    assert sorted(points_of_the_code()) == sorted(names_of_points())


@pytest.mark.parametrize(("name", "place"), CHOSEN)
def test_a_crash_costs_what_the_matrix_says(name, place, tmp_path):
    (row,) = (row for row in ROWS if row.name == name and place in row.places)
    verdict = judged(row, place, tmp_path, kind="sqlite")
    assert verdict.faults == ()
