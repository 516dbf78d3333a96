"""Where a process ends itself for a test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.crashpoint import EXIT_CODE, Crash

ROOT = Path(__file__).parents[2]
THREE_ARRIVALS = """
from orchestrator.crashpoint import crashpoint
for arrival in (1, 2, 3):
    crashpoint("here")
    crashpoint("there")
    print(arrival, flush=True)
"""


def arriving(**crash: str) -> subprocess.CompletedProcess[str]:
    """A process that comes three times to the points `here` and `there`, and says so after each."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROLLFORWARD_")}
    return subprocess.run(
        [sys.executable, "-c", THREE_ARRIVALS],
        cwd=ROOT,
        env={**inherited, **crash},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_being_asked_nothing_happens() -> None:
    done = arriving()
    assert (done.returncode, done.stdout.split()) == (0, ["1", "2", "3"])


def test_it_ends_at_the_arrival_that_is_asked_for() -> None:
    done = arriving(ROLLFORWARD_CRASH="there:2")
    assert (done.returncode, done.stdout.split()) == (EXIT_CODE, ["1"])


def test_with_a_file_the_arrivals_of_one_process_count_for_the_next_and_one_of_them_ends(tmp_path: Path) -> None:
    crash = {"ROLLFORWARD_CRASH": "here:5", "ROLLFORWARD_CRASH_FILE": str(tmp_path / "arrivals")}
    codes = [arriving(**crash).returncode for _ in range(4)]
    assert codes == [0, EXIT_CODE, 0, 0]


def test_of_two_that_share_a_file_only_one_is_the_nth(tmp_path: Path) -> None:
    one, other = (Crash("here", 3, tmp_path / "arrivals") for _ in range(2))
    arrivals = [crash.is_due("here") for crash in (one, other) * 3]
    assert arrivals == [False, False, True, False, False, False]


def test_arrivals_elsewhere_do_not_count(tmp_path: Path) -> None:
    crash = Crash("here", 1, tmp_path / "arrivals")
    assert not crash.is_due("there")
    assert crash.is_due("here")


@pytest.mark.parametrize(("asked", "nth"), [("here", 1), ("here:1", 1), ("here:7", 7)])
def test_the_arrival_is_the_first_where_no_other_is_named(asked: str, nth: int) -> None:
    assert Crash.asked_for({"ROLLFORWARD_CRASH": asked}) == Crash("here", nth)
