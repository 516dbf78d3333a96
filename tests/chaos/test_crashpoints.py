"""A choice of the crash-point sweep; `make crashpoints` does all of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.crash.case import judged
from tests.chaos.crash.row import ROWS, names_of_points

ROOT = Path(__file__).parents[2]
LAYERS = ("orchestrator", "backends", "workers", "rollforward")
CHOSEN = {"W3": "first", "W6": "middle", "O2": "first", "O6": "last", "O8": "only"}

pytestmark = pytest.mark.timeout(120)


def points_of_the_code() -> Iterator[str]:
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crashpoint":
                    yield ast.literal_eval(node.args[0])


def test_every_point_of_the_code_is_a_row_and_every_row_that_names_one_has_it() -> None:
    assert sorted(points_of_the_code()) == sorted(names_of_points())


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in CHOSEN], ids=lambda row: row.name)
def test_a_crash_costs_what_the_matrix_says(row, tmp_path):
    verdict = judged(row, CHOSEN[row.name], tmp_path, url=f"sqlite:///{tmp_path}/state.db")
    assert verdict.faults == ()
