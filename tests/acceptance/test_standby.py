"""Two servers: one owns a run; the other takes it over from one that is frozen, or cut off from the database."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import pytest

from tests.service.cancelling import at_work
from tests.service.cli import CommandLine
from tests.service.postgres import PostgresServer
from tests.service.proxy import Proxy
from tests.service.worker import WorkerProcess, wait_until

GRAPH, GRAPHS = "tests.graph.tiny:graph", "tests.graph.tiny"
COUNT = 6
RUN = "one"
LEASE_SECONDS = 10
"""Of an orchestrator on its run."""
TAKEN_OVER_SECONDS = 3 * LEASE_SECONDS
AT_ONCE_SECONDS = LEASE_SECONDS / 2

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True)
class Scene:
    """A deployment with a run that waits in the middle of its instances."""

    cli: CommandLine
    pids: dict[str, int] = field(default_factory=dict)

    def submit(self, run_id: str = RUN, *, act: str = "wait") -> None:
        fields = [f"numbers={list(range(COUNT))}", f'act="{act}"', f'folder="{self.cli.folder}"']
        given = [part for one in fields for part in ("--set", one)]
        self.cli.ok("run", GRAPH, "--run-id", run_id, *given, "--detach")

    @contextmanager
    def server(self, name: str, **settings: str) -> Iterator[Popen[str]]:
        """A server that has begun to serve; its log is a file of that name."""
        cli = CommandLine(self.cli.folder, {**self.cli.environment, **settings}, self.cli.mark)
        with cli.started("serve", stderr=self.cli.folder / name) as process:
            wait_until(lambda: self.said(name, "serving"), what=f"{name} serves")
            self.pids[name] = process.pid
            yield process

    def said(self, name: str, event: str) -> list[dict[str, object]]:
        """What a server has said of this kind."""
        lines = (self.cli.folder / name).read_text().splitlines()
        return [said for said in map(json.loads, lines) if said["event"] == event]

    def until_owned_by(self, name: str) -> None:
        wait_until(
            lambda: f":{self.pids[name]}:" in (self.status()["owner"] or ""),
            what=f"{name} owns the run",
            seconds=TAKEN_OVER_SECONDS,
        )

    def until_fenced(self, name: str) -> None:
        """A server says at once that its run is another's."""
        wait_until(lambda: self.said(name, "run ended"), what=f"{name} is fenced", seconds=AT_ONCE_SECONDS)
        (said,) = self.said(name, "run ended")
        assert said["category"] == "orchestrator_fenced", said

    def status(self, run_id: str = RUN) -> dict[str, str]:
        found: dict[str, str] = self.cli.ok("status", run_id, "-o", "json").document
        return found

    def until_succeeded(self, run_id: str = RUN) -> None:
        wait_until(lambda: self.status(run_id)["status"] == "succeeded", what=f"run {run_id} succeeds")

    def begun(self) -> list[Path]:
        return list(self.cli.folder.glob("started-*"))

    def go(self) -> None:
        """Let every instance end, and wait for the run's end."""
        (self.cli.folder / "go").touch()
        self.until_succeeded()

    def assert_whole(self) -> None:
        """It ended as an undisturbed run does: each instance ran once."""
        assert self.cli.ok("verify", RUN, "-o", "json").document["ok"]
        items = self.cli.ok("items", RUN, "-o", "jsonl").lines
        assert [item["delivery_attempt"] for item in items] == [1] * COUNT


@contextmanager
def scene_of(cli: CommandLine, redis_url: str, checkpoint_url: str) -> Iterator[Scene]:
    settings = {
        "ROLLFORWARD_REDIS_URL": redis_url,
        "ROLLFORWARD_GRAPHS": GRAPHS,
        "ROLLFORWARD_CHECKPOINT_URL": checkpoint_url,
    }
    with at_work(WorkerProcess(cli.folder, redis_url=redis_url, graphs=[GRAPHS], pool="threads", concurrency=2)):
        yield Scene(CommandLine(cli.folder, settings, cli.mark))


def test_each_of_many_runs_is_taken_by_one_server_and_by_one_only(cli: CommandLine, redis_url: str) -> None:
    runs = [f"run-{number}" for number in range(6)]
    with scene_of(cli, redis_url, f"sqlite:///{cli.folder}/state.db") as scene:
        with scene.server("first"), scene.server("second"):
            for run_id in runs:
                scene.submit(run_id, act="double")
            for run_id in runs:
                scene.until_succeeded(run_id)
        taken = [said["run_id"] for name in ("first", "second") for said in scene.said(name, "run taken")]
        assert sorted(map(str, taken)) == runs


def test_a_server_that_was_frozen_past_its_lease_writes_nothing_when_it_wakes_and_says_that_it_is_fenced(
    cli: CommandLine, redis_url: str
) -> None:
    with scene_of(cli, redis_url, f"sqlite:///{cli.folder}/state.db") as scene:
        scene.submit()
        with scene.server("first") as first:
            wait_until(scene.begun, what="an instance begins")
            with scene.server("second"):
                scene.until_owned_by("first")
                assert scene.said("second", "run taken") == []
                first.send_signal(signal.SIGSTOP)
                scene.until_owned_by("second")
                first.send_signal(signal.SIGCONT)
                scene.until_fenced("first")
                scene.until_owned_by("second")
                scene.go()
        scene.assert_whole()


@pytest.fixture
def network(postgres_server: PostgresServer) -> Iterator[Proxy]:
    """Between a server and the database."""
    proxy = Proxy(postgres_server.folder / ".s.PGSQL.5432")
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture
def through(network: Proxy, postgres_url: str) -> str:
    """The database, by way of the network."""
    database = postgres_url.partition("@/")[2].partition("?")[0]
    return f"postgresql+psycopg://postgres@127.0.0.1:{network.port}/{database}"


def test_a_server_that_is_cut_off_from_the_database_is_fenced_and_its_run_goes_on_elsewhere(
    cli: CommandLine, redis_url: str, postgres_url: str, network: Proxy, through: str
) -> None:
    with scene_of(cli, redis_url, postgres_url) as scene:
        scene.submit()
        with scene.server("first", ROLLFORWARD_CHECKPOINT_URL=through):
            wait_until(scene.begun, what="an instance begins")
            with scene.server("second"), network.lost():
                scene.until_owned_by("second")
                scene.until_fenced("first")
                scene.go()
            scene.submit("another")
            scene.until_succeeded("another")
            assert [said["run_id"] for said in scene.said("first", "run taken")] == [RUN, "another"]
        scene.assert_whole()


def test_a_server_that_is_cut_off_says_so_and_ends_when_it_is_asked_to(
    cli: CommandLine, redis_url: str, postgres_url: str, network: Proxy, through: str
) -> None:
    with scene_of(cli, redis_url, postgres_url) as scene:
        scene.submit()
        with scene.server("first", ROLLFORWARD_CHECKPOINT_URL=through) as first:
            wait_until(scene.begun, what="an instance begins")
            with network.lost():
                wait_until(lambda: scene.said("first", "store does not answer"), what="it says so")
                first.send_signal(signal.SIGTERM)
                assert first.wait(timeout=4 * LEASE_SECONDS) == 1
        assert scene.said("first", "ended while the store did not answer, its runs wait for their leases to end")
        with scene.server("second"):
            scene.until_owned_by("second")
            scene.go()
        scene.assert_whole()
