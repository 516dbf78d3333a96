"""What limits do to instances and to the processes that run them."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.service.crew import Crew, crew_of
from tests.service.worker import wait_until

LIMITED, UNLIMITED = "tests.graph.sticking:limited", "tests.graph.sticking:unlimited"
MAX_DELIVERIES = 2
SETTINGS = {"ROLLFORWARD_LEASE_SECONDS": "60", "ROLLFORWARD_MAX_DELIVERIES": str(MAX_DELIVERIES)}
RUN = "one"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    with crew_of(tmp_path, "tests.graph.sticking", **SETTINGS) as crew:
        yield crew


def done(crew: Crew, graph: str, acts: Sequence[str]) -> list[str]:
    """What a run of these comes to."""
    fields = [f"acts={json.dumps(acts)}", f'folder="{crew.folder}"']
    given = [part for one in fields for part in ("--set", one)]
    ended = crew.deployment.ended(
        crew.deployment.begin("run", graph, *given, "--run-id", RUN, "--progress", "none", "-o", "json")
    )
    assert crew.deployment.command("verify", RUN, "-o", "json")["ok"]
    wait_until(lambda: crew.in_broker() == (0, 0), what="no message is left", because=lambda: str(crew.in_broker()))
    outs: list[str] = ended["state"]["outs"]
    return outs


def begun(crew: Crew) -> list[tuple[str, str]]:
    """What began, and in which process."""
    lines = (crew.folder / "begun").read_text().splitlines()
    return [(act, pid) for act, pid in (line.split() for line in lines)]


def test_an_instance_past_its_time_limit_is_reported_and_not_run_again(crew: Crew) -> None:
    workers = [crew.start("prefork"), crew.start("threads", pool="threads")]
    acts = ["wait", "end"] * 10
    assert done(crew, LIMITED, acts) == ["end"] * 10
    items = crew.items(RUN)
    late = [item for item, act in zip(items, acts, strict=True) if act == "wait"]
    assert {item["error"]["category"] for item in late} == {"instance_time_limit_exceeded"}
    assert {item["worker"] for item in late} == {worker.name for worker in workers}
    assert {item["delivery_attempt"] for item in items} == {1}


def test_an_instance_past_the_hard_limit_loses_its_process_and_is_given_up_and_its_neighbours_are_not_run_again(
    crew: Crew,
) -> None:
    crew.start("worker", environment={"ROLLFORWARD_HARD_LIMIT_SECONDS": "2"})
    assert done(crew, UNLIMITED, ["end", "stick", *["end"] * 6]) == ["end"] * 7
    assert Counter(act for act, _ in begun(crew)) == {"end": 7, "stick": MAX_DELIVERIES}
    (lost,) = [item for item in crew.items(RUN) if item["state"] != "succeeded"]
    assert (lost["state"], lost["fan_out_index"], lost["error"]["category"]) == ("lost", 1, "instance_lost")


def test_a_process_over_its_memory_limit_is_replaced_after_its_report_and_nothing_runs_again(crew: Crew) -> None:
    crew.start("worker", environment={"ROLLFORWARD_CHILD_MEMORY_MB": "1"})
    count = 8
    assert done(crew, UNLIMITED, ["end"] * count) == ["end"] * count
    assert len({pid for _, pid in begun(crew)}) == len(begun(crew)) == count
    assert {item["delivery_attempt"] for item in crew.items(RUN)} == {1}
