"""However a worker is stopped in the middle of instances, others have what it did not finish at once.

Leases are a minute long, so that nothing here waits for one to end.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.crew import Crew, crew_of
from tests.service.deployment import Command
from tests.service.worker import WorkerProcess, wait_until

if TYPE_CHECKING:
    from workers.launch import Pool

LEASE_SECONDS = 60.0
AT_ONCE_SECONDS = LEASE_SECONDS / 4
"""What a busy machine may take to do what takes a second."""

POOLS: "dict[Pool, int]" = {"prefork": 2, "threads": 2, "solo": 1}
"""The workers of a test, one of each pool, and their places."""
PLACES = sum(POOLS.values())
LATER = 3
"""How many instances wait for a place."""
RUN = "one"

SOFT = {"REMAP_SIGTERM": "SIGQUIT"}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    with crew_of(tmp_path, "tests.graph.tiny", ROLLFORWARD_LEASE_SECONDS=str(LEASE_SECONDS)) as crew:
        yield crew


def those_that_stop(crew: Crew, environment: dict[str, str] | None = None) -> list[WorkerProcess]:
    return [crew.start(pool, pool=pool, slots=slots, environment=environment) for pool, slots in POOLS.items()]


def nothing_is_left(crew: Crew) -> None:
    """No message, no lease, and no worker but those that run."""
    wait_until(lambda: crew.in_broker() == (0, 0), what="no message is left", because=lambda: str(crew.in_broker()))
    assert crew.leases_of(POOLS) == []


def assert_whole(crew: Crew, ended: dict[str, Any], count: int) -> None:
    assert ended["status"] == "succeeded"
    assert len(ended["state"]["results"]) == count
    assert crew.deployment.command("verify", RUN, "-o", "json")["ok"]


def test_workers_that_stop_warmly_finish_what_they_have_and_others_have_the_rest_at_once(crew: Crew) -> None:
    workers = those_that_stop(crew)
    command = crew.run(PLACES + LATER, RUN)
    kept = crew.until_begun(PLACES, *POOLS)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    crew.start("heir", slots=LATER)
    begun = crew.until_begun(LATER, "heir", seconds=AT_ONCE_SECONDS)
    assert {name: begun[name] for name in kept} == kept
    assert all(worker.children for worker in workers if worker.name == "prefork@test")
    crew.go()
    assert_whole(crew, crew.deployment.ended(command), PLACES + LATER)
    assert set(crew.deliveries(RUN).values()) == {1}
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    nothing_is_left(crew)


def test_what_does_not_end_in_the_time_of_a_soft_stop_is_begun_by_others_at_once(crew: Crew) -> None:
    workers = those_that_stop(crew, {**SOFT, "ROLLFORWARD_SHUTDOWN_GRACE_SECONDS": "8"})
    command = begun_by_all(crew)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    all_say(workers, "Initiating Soft Shutdown")
    wait_until(lambda: crew.present() == ["heir@test"], what="they withdraw", seconds=2)
    assert "heir@test" not in crew.begun()
    taken_over(crew, command)
    for worker in workers:
        worker.wait()
    nothing_is_left(crew)


def test_a_second_signal_hands_everything_to_others_at_once(crew: Crew) -> None:
    worker = crew.start("prefork", slots=PLACES, environment=SOFT)
    command = begun_by_all(crew)
    for word in ("Initiating Soft Shutdown", "Waiting gracefully"):
        worker.signal(signal.SIGTERM)
        all_say([worker], word)
    taken_over(crew, command)
    worker.signal(signal.SIGQUIT)
    worker.wait()
    nothing_is_left(crew)


def all_say(workers: list[WorkerProcess], word: str) -> None:
    wait_until(lambda: all(word in worker.log.read_text() for worker in workers), what=word)


def begun_by_all(crew: Crew) -> Command:
    """A run that has every place of them taken, while an heir with as many has nothing to do."""
    command = crew.run(PLACES, RUN)
    crew.until_begun(PLACES, *POOLS)
    crew.start("heir", slots=PLACES)
    return command


def taken_over(crew: Crew, command: Command) -> None:
    """The heir begins all of it at once, and the run ends."""
    begun = crew.until_begun(PLACES, "heir", seconds=AT_ONCE_SECONDS)
    assert begun["heir@test"] == set(range(PLACES))
    crew.go()
    assert_whole(crew, crew.deployment.ended(command), PLACES)
    assert set(crew.deliveries(RUN).values()) == {2}
