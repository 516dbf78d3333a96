"""`rollforward.map`, as a script of somebody without a graph calls it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry import trace

import rollforward
from tests.service.cli import CommandLine
from tests.service.otlp import Collector

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


AGAIN = """
import sys
from pathlib import Path
import rollforward

def double(number: int) -> int:
    with Path("called.txt").open("a") as file:
        file.write(f"{number} ")
    if number == 3 and not Path("mended").exists():
        raise RuntimeError("not mended")
    return 2 * number

if __name__ == "__main__":
    items = [int(text) for text in sys.argv[1:]]
    handle = rollforward.map(double, items, run_id="again", executor="local", tolerate=1)
    print([result.value for result in handle.results()], handle.status().status.value)
"""


def map_again(folder: Path, *items: int) -> subprocess.CompletedProcess[str]:
    (folder / "again.py").write_text(AGAIN)
    command = [sys.executable, "again.py", *map(str, items)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)


def test_a_run_id_that_is_kept_is_gone_on_with_and_nothing_recorded_runs_again(tmp_path: Path) -> None:
    first, second = map_again(tmp_path, 1, 2, 3), map_again(tmp_path, 1, 2, 3)
    assert first.stdout == "[2, 4, None] succeeded\n", first.stderr
    assert (second.stdout, second.returncode) == (first.stdout, 0), second.stderr
    assert sorted((tmp_path / "called.txt").read_text().split()) == ["1", "2", "3"]


@pytest.mark.parametrize("items", [(1, 2), (1, 2, 4), (1, 2, 3, 4)])
def test_a_run_id_that_is_kept_with_other_items_is_refused(tmp_path: Path, items: tuple[int, ...]) -> None:
    map_again(tmp_path, 1, 2, 3)
    other = map_again(tmp_path, *items)
    assert other.returncode == 1
    assert "CheckpointRecordInvalid: run again was started with other items" in other.stderr
    assert sorted((tmp_path / "called.txt").read_text().split()) == ["1", "2", "3"]


def test_a_run_that_was_killed_is_gone_on_with_by_the_same_call(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    with subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.kill()
    (tmp_path / "go").touch()
    done = subprocess.run([sys.executable, "slow.py"], cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.returncode) == ("1\n2\n3\n", 0), done.stderr
    assert (tmp_path / "called.txt").read_text().split().count("1") == 1


SLOW = """
import asyncio
from pathlib import Path
import rollforward

async def wait(number: int) -> int:
    with Path("called.txt").open("a") as file:
        file.write(f"{number} ")
    while number > 1 and not Path("go").exists():
        await asyncio.sleep(0.01)
    return number

if __name__ == "__main__":
    for result in rollforward.map(wait, [1, 2, 3], run_id="slow", executor="local").results():
        print(result.value, flush=True)
"""


UNGUARDED = """
import rollforward

def double(number: int) -> int:
    return 2 * number

print([result.value for result in rollforward.map(double, [1, 2], workers=1).results()])
"""


def test_a_call_without_a_guard_is_told_at_once_to_have_one(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(UNGUARDED)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "bare.py"], cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert done.returncode == 1
    assert 'guard the call by `if __name__ == "__main__":`' in done.stderr
    assert time.monotonic() - began < 45


GUARDED = UNGUARDED.replace("print(", 'if __name__ == "__main__":\n    print(')


def test_a_script_of_another_folder_is_found_by_its_workers(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "job.py").write_text(GUARDED)
    done = subprocess.run([sys.executable, "scripts/job.py"], cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.returncode) == ("[2, 4]\n", 0), done.stderr


def test_a_run_is_resumed_by_the_name_of_its_function(cli: CommandLine) -> None:
    source = SLOW.replace("def wait(", "def work(").replace("map(wait,", "map(work,")
    (cli.folder / "slow.py").write_text(source)
    with subprocess.Popen([sys.executable, "slow.py"], cwd=cli.folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.kill()
    (cli.folder / "go").touch()
    ended = cli.ok("resume", "slow", "--graph", "slow:work", "-o", "json")
    assert ended.document["state"]["results"] == [1, 2, 3]
    assert (cli.folder / "called.txt").read_text().split().count("1") == 1


def test_each_mapping_is_traced_and_leaves_the_tracing_of_its_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = trace.get_tracer_provider()
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        for _ in range(2):
            rollforward.map(abs, [-1, 2], executor="local").wait()
            assert len(collector.named("rollforward.invocation")) == 1
            collector.clear()
    assert trace.get_tracer_provider() is before
