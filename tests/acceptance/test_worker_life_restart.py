"""Workers stop one after the other while a run streams through them."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.crew import Crew, crew_of
from tests.service.deployment import Command
from tests.service.worker import wait_until

if TYPE_CHECKING:
    from workers.launch import Pool

COUNT = 80
SETTINGS = {"ROLLFORWARD_LEASE_SECONDS": "60", "WITNESS_SECONDS": "0.1"}
STEP = 12
"""How many instances begin between two stops."""
POOLS: "tuple[Pool, ...]" = ("prefork", "threads")

pytestmark = pytest.mark.timeout(180)


def test_workers_that_stop_warmly_in_the_middle_of_a_stream_lose_nothing_and_run_nothing_twice(tmp_path: Path) -> None:
    with crew_of(tmp_path, "tests.graph.witnessed", **SETTINGS) as crew:
        workers = [crew.start(pool, pool=pool) for pool in POOLS]
        crew.start("last")
        command = begun(crew)
        for worker in workers:
            more_begin(crew, command)
            worker.signal(signal.SIGTERM)
        assert [worker.wait() for worker in workers] == [0, 0]
        assert crew.deployment.ended(command)["status"] == "succeeded"
        assert crew.deployment.command("verify", "one", "-o", "json")["ok"]
        assert {item["worker"] for item in crew.items("one")} == {worker.name for worker in workers} | {"last@test"}
        assert sorted(crew.deployment.executions().elements()) == list(range(COUNT))
        wait_until(lambda: crew.in_broker() == (0, 0), what="no message is left", because=lambda: str(crew.in_broker()))


def begun(crew: Crew) -> Command:
    given = ("--set", f"numbers={list(range(COUNT))}", "--run-id", "one", "--progress", "none", "-o", "json")
    return crew.deployment.begin("run", "tests.graph.witnessed:graph", *given)


def more_begin(crew: Crew, command: Command) -> None:
    count = len(crew.deployment.witnessed()) + STEP
    wait_until(lambda: len(crew.deployment.witnessed()) >= count, what=f"{count} begin", because=crew.words)
    assert command.poll() is None
