"""A database that is restored from an older backup is refused, with the way out in the message."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.service.deployment import Command, Deployment
from tests.service.forking import forked
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY

NUMBERS = [number for number in range(30) if number % 10 != 3]
GRAPH = "tests.graph.witnessed:graph"
RUN = "restored"
ASKED = ("--progress", "none", "-o", "json")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    redis = RedisServer(tmp_path / "redis").start()
    deployed = Deployment(tmp_path, redis, f"sqlite:///{tmp_path}/state.db", graphs=["tests.graph.witnessed"])
    try:
        yield deployed
    finally:
        deployed.close()
        redis.stop()


def die_with(deployment: Deployment, command: Command, *, recorded: int) -> None:
    """Kill the orchestrator once so many instances are recorded."""
    deployment.wait_until_recorded(RUN, recorded, command)
    command.kill()
    command.communicate()


def backed_up(deployment: Deployment) -> bytes:
    copy = deployment.folder / "backup.db"
    with closing(sqlite3.connect(deployment.folder / "state.db")) as database, closing(sqlite3.connect(copy)) as backup:
        database.backup(backup)
    return copy.read_bytes()


def restore(deployment: Deployment, backup: bytes) -> None:
    for end in ("-wal", "-shm"):
        (deployment.folder / f"state.db{end}").unlink(missing_ok=True)
    (deployment.folder / "state.db").write_bytes(backup)


def test_it_is_refused_and_gone_on_with_where_that_is_accepted(deployment: Deployment) -> None:
    deployment.worker()
    begun = deployment.begin("run", GRAPH, "--set", f"numbers={NUMBERS}", "--run-id", RUN, *ASKED)
    die_with(deployment, begun, recorded=5)
    backup = backed_up(deployment)
    die_with(deployment, deployment.begin("resume", RUN, *ASKED), recorded=15)
    restore(deployment, backup)
    refused = forked(["resume", RUN, *ASKED], folder=REPOSITORY, environment=deployment.environment, seconds=60)
    assert refused.code != 0
    assert f"`rollforward resume {RUN} --accept-older-record`" in refused.stderr
    ended = deployment.command("resume", RUN, "--accept-older-record", *ASKED)
    assert ended["state"]["squares"] == [number**2 for number in NUMBERS]
    assert deployment.command("verify", RUN, "-o", "json")["ok"]
