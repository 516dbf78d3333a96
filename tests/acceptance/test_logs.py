"""What instances put out, on real workers of every pool, as `rollforward logs` shows it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.cli import CommandLine
from tests.service.crew import Crew, crew_of
from tests.service.worker import wait_until

if TYPE_CHECKING:
    from workers.launch import Pool

GRAPH = "tests.graph.talking:graph"
OWN_LOGGER = "rollforward.instance"

pytestmark = pytest.mark.timeout(120)

Line = dict[str, Any]


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    with crew_of(tmp_path, "tests.graph.talking") as crew:
        yield crew


def logs(crew: Crew, run_id: str, *arguments: str) -> list[Line]:
    lines: list[Line] = crew.deployment.command("logs", run_id, "-o", "json", *arguments)["items"]
    return lines


def ran(crew: Crew, count: int, run_id: str, act: str) -> list[Line]:
    """The lines of a run that was brought to its end."""
    crew.deployment.ended(crew.run(count, run_id, act=act, graph=GRAPH))
    return logs(crew, run_id)


def told(lines: list[Line], stream: str, index: int = 0) -> list[str]:
    return [line["text"] for line in lines if (line["stream"], line["fan_out_index"]) == (stream, index)]


def spoken(index: int) -> dict[str, list[str]]:
    """What every instance says, whatever its act."""
    return {
        "stdout": [f"out {index}"],
        "stderr": [f"err {index}"],
        "log": [f"logged {index}", "of a task", "of the instance, password=***"],
    }


def assert_spoken(lines: list[Line], index: int, **more: list[str]) -> None:
    expected = {stream: [*texts, *more.get(stream, [])] for stream, texts in spoken(index).items()}
    assert {stream: told(lines, stream, index) for stream in expected} == expected


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_of_an_instance_alone_in_its_process_child_processes_are_heard_too(crew: Crew, pool: "Pool") -> None:
    worker = crew.start("worker", pool=pool)
    lines = ran(crew, 2, "one", "child")
    for index in range(2):
        assert_spoken(lines, index, stdout=["child out", "raw \ufffd"], stderr=["child err"])
    assert {line["worker"] for line in lines} == {worker.name}
    writers = {line["text"]: (line["inner_node"], line["attempt_index"]) for line in lines}
    assert (writers["out 0"], writers["child out"]) == (("speakers/speak", 0), (None, None))
    assert {line["key"] for line in lines} == {"speaker-0", "speaker-1"}
    written = worker.log.read_bytes()
    assert all(word in written for word in (b"out 0\n", b"err 1\n", b"child out\n", b"child err\n", b"raw \xff\n"))


def test_instances_in_threads_beside_each_other_do_not_mix(crew: Crew) -> None:
    worker = crew.start("worker", pool="threads", slots=2)
    command = crew.run(2, "one", graph=GRAPH)
    crew.until_begun(2, "worker")
    crew.go()
    crew.deployment.ended(command)
    lines = logs(crew, "one")
    for index in range(2):
        assert_spoken(lines, index, stdout=[f"went {index}"])
    # Python keeps what goes to a file until there is more of it, and two threads may share a line.
    worker.stop()
    assert all(word in worker.log.read_bytes() for word in (b"out 0", b"out 1"))


def test_a_failure_shows_its_traceback_and_a_flood_its_head_and_its_tail(crew: Crew) -> None:
    crew.start("worker", environment={"ROLLFORWARD_LOG_BYTES": "16384", "ROLLFORWARD_LOG_LEVEL": "warning"})
    failed = ran(crew, 1, "failed", "fail")
    *_, last = failed
    assert (last["level"], last["logger"]) == ("ERROR", OWN_LOGGER)
    assert "ValueError: speaker 0 is hoarse" in last["text"]
    assert told(failed, "log")[0] == "of the instance, password=***"
    flood = ran(crew, 1, "flood", "flood")
    assert sum(len(line["text"]) for line in flood) < 16384
    assert next(line["text"] for line in flood if line["is_cut"]).endswith(" bytes left out ...")
    assert (told(flood, "stdout")[:2], told(flood, "stdout")[-1]) == (["out 0", "0: 0"], "0: 9999")


def test_what_goes_on_is_followed_to_its_end(crew: Crew) -> None:
    crew.start("worker")
    command = crew.run(2, "one", graph=GRAPH)
    crew.until_begun(1, "worker")
    following = crew.deployment.begin("logs", "one", "--follow", "-o", "json", "--index", "1")
    wait_until(lambda: told(logs(crew, "one"), "stdout", 1), what="a line of an instance that runs is kept")
    crew.go()
    crew.deployment.ended(command)
    out, err = following.communicate(timeout=30)
    assert (following.returncode, err) == (0, "")
    assert_spoken([json.loads(line) for line in out.splitlines()], 1, stdout=["went 1"])


def test_what_a_lost_delivery_had_told_is_kept_beside_what_the_next_one_tells(crew: Crew) -> None:
    first = crew.start("first", slots=1)
    command = crew.run(1, "one", graph=GRAPH)
    (index,) = crew.until_begun(1, "first")[first.name]
    wait_until(lambda: logs(crew, "one"), what="its lines are kept")
    first.kill()
    crew.start("second", slots=1)
    crew.until_begun(1, "second")
    crew.go()
    crew.deployment.ended(command)
    lines = logs(crew, "one")
    lost, ended = ([line for line in lines if line["delivery_attempt"] == delivery] for delivery in (1, 2))
    assert_spoken(lost, index)
    assert_spoken(ended, index, stdout=[f"went {index}"])


def test_a_new_owner_of_the_run_neither_loses_nor_repeats_lines(crew: Crew) -> None:
    crew.start("worker", slots=1)
    command = crew.run(1, "one", graph=GRAPH)
    crew.until_begun(1, "worker")
    wait_until(lambda: logs(crew, "one"), what="its lines are kept")
    os.kill(command.pid, signal.SIGKILL)
    command.communicate(timeout=30)
    resumed = crew.deployment.begin("resume", "one", "--progress", "none", "-o", "json")
    crew.go()
    crew.deployment.ended(resumed)
    assert_spoken(logs(crew, "one"), 0, stdout=["went 0"])


def test_a_run_without_workers_is_heard_as_well_and_read_by_people(cli: CommandLine) -> None:
    fields = ("--set", "numbers=[3, 4]", "--run-id", "one", "--progress", "none")
    told = cli.ok("run", GRAPH, "--executor", "local", *fields).stderr.splitlines()
    assert [line for line in told if line.startswith("out")] == ["out 3", "out 4"]
    (line,) = [line for line in cli.ok("logs", "o", "--index", "1").stdout.splitlines() if "stdout" in line]
    assert line.endswith(" speakers[1]/speak speaker-4 stdout: out 4")
    assert len(cli.ok("logs", "one", "--node", "speakers", "-o", "jsonl").lines) == 10
    assert cli.run("logs", "one", "--node", "others", "-o", "json").stdout == ""


def test_where_nothing_is_kept_one_sentence_says_why(cli: CommandLine) -> None:
    fields = ("--executor", "local", "--set", "numbers=[1]", "--run-id", "quiet", "--progress", "none")
    silent = CommandLine(cli.folder, {"ROLLFORWARD_LOGS": "off"}, cli.mark)
    silent.ok("run", GRAPH, *fields)
    for command_line, reason in ((silent, "ROLLFORWARD_LOGS is off"), (cli, "set it to on")):
        ended = command_line.ok("logs", "quiet")
        assert (ended.stdout, reason in ended.stderr, ended.stderr.count("\n")) == ("", True, 1)
    assert cli.run("logs", "nobody").code == cli.run("items", "nobody").code != 0
