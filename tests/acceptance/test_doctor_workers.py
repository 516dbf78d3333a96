"""`doctor` on workers: who is alive, whether they take what is sent, and whether they fit each other and this code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from redis import Redis

from tests.security.users import GuardedRedis
from tests.service.cli import CommandLine
from tests.service.examined import examined
from tests.service.redis import RedisServer
from tests.service.worker import LEASE_SECONDS, REPOSITORY, WorkerProcess, wait_until
from workers.application import build_app
from workers.message import CANARY_RUN_ID
from workers.opening import open_worker_ledger
from workers.settings import Settings

GRAPH = "tests.graph.tiny:graph"
TINY = "tests.graph.tiny"
SECRET = "4f0c2b8e6d1a4f0c2b8e6d1a"

VERSION = """
from tests.graph.tiny import piece
from tests.graph.waiting import Whole
from rollforward import END, GraphBuilder
graph = (
    GraphBuilder(Whole)
    .add_fan_out_node("{node}", subgraph=piece, items_field="numbers", item_field="number", collect_field="result",
                      target_field="results")
    .set_entry("{node}").add_edge("{node}", END).compile(name="versioned")
)
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    try:
        with server.client() as client:
            client.config_set("maxmemory", "256mb")
        yield server
    finally:
        server.stop()


@pytest.fixture
def deployed(cli: CommandLine, redis: RedisServer) -> CommandLine:
    environment = {
        "ROLLFORWARD_REDIS_URL": redis.url,
        "ROLLFORWARD_CHECKPOINT_URL": f"sqlite:///{cli.folder}/state.db",
        "ROLLFORWARD_GRAPHS": TINY,
        "ROLLFORWARD_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    return CommandLine(cli.folder, environment, cli.mark)


@contextmanager
def worker(
    cli: CommandLine, environment: Mapping[str, str] | None = None, *, name: str = "worker", slots: int = 2
) -> Iterator[WorkerProcess]:
    """A worker of the deployment, killed at the end: nobody waits for what it is at."""
    started = WorkerProcess(
        cli.folder,
        redis_url=cli.environment["ROLLFORWARD_REDIS_URL"],
        graphs=[TINY],
        pool="threads",
        concurrency=slots,
        name=name,
        environment=environment,
    )
    try:
        yield started.start()
    finally:
        started.kill()


def with_more(cli: CommandLine, **environment: str) -> CommandLine:
    return CommandLine(cli.folder, {**cli.environment, **environment}, cli.mark)


def as_list(told: object) -> list[str]:
    assert isinstance(told, list)
    return told


def canaries_left(client: Redis) -> list[str]:
    """The keys that are left of canaries, which all go by themselves."""
    keys: Any = client.keys(f"rollforward:run:{{{CANARY_RUN_ID}}}*")
    assert all(0 < int(client.ttl(key)) <= 120 for key in keys)
    return [key.decode() for key in keys]


def settings_of(cli: CommandLine) -> Settings:
    return Settings(redis_url=cli.environment["ROLLFORWARD_REDIS_URL"], monitoring=True)


@contextmanager
def waiting_run(cli: CommandLine, count: int) -> Iterator[Popen[str]]:
    """A run whose instances wait for a file `go` once they have begun."""
    fields = [f"numbers={list(range(count))}", 'act="wait"', f'folder="{cli.folder}"']
    given = [part for one in fields for part in ("--set", one)]
    with cli.started("run", GRAPH, "--run-id", "one", *given) as process:
        yield process


def test_a_good_deployment_has_no_finding_and_its_worker_claims_canaries_that_leave_nothing_behind(deployed, redis):
    # More places than canaries: one of them is always free.
    with worker(deployed, slots=8) as alive, redis.client() as client:
        for _ in range(2):
            found = examined(deployed)
            assert found.bad() == set()
        assert "tiny (" in found.of("worker", alive.name)["found"]
        canaries = [one["found"] for one in found.findings if one["check"] == "canary"]
        assert len(canaries) >= 1
        assert all(canary.startswith(f"claimed by {alive.name} after ") for canary in canaries)
        assert {key.rpartition(":")[2] for key in canaries_left(client)} == {"meta"}
        log = alive.log.read_text()
        assert log.count("canary heard") == 2 * len(canaries)
        assert "WARNING" not in log
        ended = deployed.ok("run", GRAPH, "--set", "numbers=[1, 2]", "-o", "json")
        assert ended.document["state"]["results"] == ["2", "4"]


def test_that_no_worker_is_alive_is_warned_of(deployed):
    found = examined(deployed)
    assert found.bad() == {("workers", "", "warning")}
    assert found.code == 0


def test_a_worker_that_takes_no_more_messages_is_refused_by_name(deployed, redis):
    with worker(deployed, {"ROLLFORWARD_MONITORING": "1"}) as deaf, redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 64mb 16mb 60")
        app = build_app(settings_of(deployed))
        ledger = open_worker_ledger(settings_of(deployed))
        (told,) = ledger.workers()
        # It is announced before it listens to this, and nobody keeps it for later.
        wait_until(lambda: app.control.ping(destination=[deaf.name]), what="it is heard")
        for queue in as_list(told["queues"]):
            app.control.cancel_consumer(queue, destination=[deaf.name])
        wait_until(lambda: ledger.workers()[0]["queues"] == [], what="it consumes nothing")
        ledger.close()
        app.close()
        found = examined(deployed)
    assert found.bad() == {("worker_consumes", deaf.name, "refused")}
    assert "start it anew" in found.of("worker_consumes", deaf.name)["way_out"]


def test_a_worker_that_says_it_is_well_and_claims_nothing_is_refused(deployed):
    """As one whose parent process announces it while its pool hangs."""
    ledger = open_worker_ledger(settings_of(deployed))
    ledger.announce("hung@test", {"slots": 2, "free": 2, "graphs": [["lonely", "12ab"]]}, ttl_seconds=60)
    ledger.close()
    found = examined(with_more(deployed, ROLLFORWARD_GRAPHS=""))
    assert found.bad() == {("canary", "lonely (12ab)", "refused")}
    assert "hung@test" in found.of("canary", "lonely (12ab)")["found"]


def test_a_worker_with_another_secret_is_found_out_by_the_canary(deployed):
    with worker(deployed, {"ROLLFORWARD_SECRET": SECRET}) as other:
        found = examined(with_more(deployed, ROLLFORWARD_SECRET=SECRET[::-1]))
        canaries = {one["subject"] for one in found.findings if one["check"] == "canary"}
        assert found.bad() == {("canary", subject, "refused") for subject in canaries} != set()
        assert all("ROLLFORWARD_SECRET" in found.of("canary", subject)["way_out"] for subject in canaries)
        again = examined(with_more(deployed, ROLLFORWARD_SECRET=SECRET))
        assert again.bad() == {("worker_messages", other.name, "warning")}


def test_workers_that_have_no_free_place_are_sent_no_canary(deployed):
    with worker(deployed, slots=1) as busy, waiting_run(deployed, 1):
        ledger = open_worker_ledger(settings_of(deployed))
        wait_until(lambda: ledger.workers()[0]["free"] == 0, what="its place is taken")
        ledger.close()
        found = examined(deployed)
        assert found.bad() == set()
        assert {one["found"] for one in found.findings if one["check"] == "canary"} == {"not sent: no place is free"}
        (deployed.folder / "go").touch()
        assert "0 free" in found.of("worker", busy.name)["found"]


def test_versions_of_a_graph_are_compared_with_each_other_and_with_this_code(deployed):
    for version in ("old", "new"):
        (deployed.folder / version).mkdir()
        (deployed.folder / version / "versioned.py").write_text(VERSION.format(node=f"{version}_pieces"))

    def at(version: str) -> dict[str, str]:
        path = f"{deployed.folder / version}:{REPOSITORY}"
        return {"PYTHONPATH": path, "ROLLFORWARD_GRAPHS": "versioned", "ROLLFORWARD_CODE_VERSION": version}

    this_code = CommandLine(deployed.folder / "new", with_more(deployed, **at("new")).environment)
    with worker(deployed, at("old"), name="old"):
        found = examined(this_code)
        assert found.bad() == {("graph_fingerprint", "versioned", "refused")}
        assert "no live worker has the version of this code" in found.of("graph_fingerprint", "versioned")["found"]
        with worker(deployed, at("new"), name="new"):
            found = examined(this_code)
    assert found.bad() == {("graph_fingerprint", "versioned", "warning"), ("code_version", "", "warning")}
    assert "new on new@test; old on old@test" in found.of("code_version")["found"]


def test_another_deployment_under_the_same_namespace_is_found_out_by_its_runs(deployed, redis):
    deployed.ok("migrate")
    elsewhere = deployed.folder / "elsewhere"
    elsewhere.mkdir()
    theirs = with_more(deployed, ROLLFORWARD_CHECKPOINT_URL=f"sqlite:///{elsewhere}/state.db")
    with waiting_run(theirs, 1), redis.client() as client:
        wait_until(lambda: client.exists("rollforward:run:{one}:meta"), what="their run is in flight")
        assert examined(theirs).bad() == {("workers", "", "warning")}
        found = examined(deployed)
    assert found.bad() == {("workers", "", "warning"), ("namespace", "ledger", "warning")}
    assert found.of("namespace", "ledger")["found"].endswith("such as one")


@pytest.mark.parametrize(("role", "canary"), [("orchestrator", "claimed by"), ("worker", "not sent")])
def test_a_role_that_may_not_queue_sends_no_canary_and_refuses_nothing_for_it(cli, tmp_path, role, canary):
    server = GuardedRedis(tmp_path / "guarded").start()
    try:
        with server.client() as client:
            client.config_set("maxmemory", "256mb")
        as_worker, as_role = (with_more(cli, ROLLFORWARD_REDIS_URL=server.url_of(name)) for name in ("worker", role))
        with worker(as_worker), server.client() as client:
            found = examined(as_role)
            assert canaries_left(client)
    finally:
        server.stop()
    assert found.bad() == set()
    assert {one["found"][: len(canary)] for one in found.findings if one["check"] == "canary"} == {canary}
