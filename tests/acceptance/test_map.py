"""`rollforward.map`, as a script of somebody without a graph calls it."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, time
from datetime import date
import rollforward

tries = {}

def next_year(day: date) -> date:
    if day.month == 2 and day.day == 29:
        raise ValueError("no such day next year")
    if day.day == 13 and not tries.setdefault(day, 0):
        tries[day] += 1
        raise TimeoutError("not yet")
    return day.replace(year=day.year + 1)

if __name__ == "__main__":
    days = [date(2024, 2, 27 + n) for n in range(3)] + [date(2024, 3, 13)]
    handle = rollforward.map(next_year, days, key=str, retry_on=(OSError,), %s)
    for result in handle.results():
        print(result.index, result.key, result.value if not result.is_failed else result.error.message)
"""

PRINTED = """\
0 2024-02-27 2025-02-27
1 2024-02-28 2025-02-28
2 2024-02-29 no such day next year
3 2024-03-13 2025-03-13
"""


def run(folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    (folder / "days.py").write_text(SCRIPT % options)
    return subprocess.run([sys.executable, "days.py"], cwd=folder, capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize("options", ['executor="local"', "workers=2"], ids=["local", "embedded"])
def test_results_come_in_order_and_typed_with_failures_among_them(tmp_path: Path, options: str) -> None:
    done = run(tmp_path, options)
    assert (done.stdout, done.returncode) == (PRINTED, 0), done.stderr


def test_more_failures_than_are_tolerated_end_it_after_the_last_result(tmp_path: Path) -> None:
    done = run(tmp_path, 'executor="local", tolerate=0.2')
    assert done.stdout == PRINTED
    assert "1 of 4 items failed, 0.8 are tolerated" in done.stderr
    assert done.returncode == 1


def test_a_function_that_workers_cannot_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "days.py").write_text(
        "import rollforward\nif __name__ == '__main__':\n    rollforward.map(lambda item: item, [1], workers=2)\n"
    )
    done = subprocess.run([sys.executable, "days.py"], cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert "give it a name at the top of a module" in done.stderr
