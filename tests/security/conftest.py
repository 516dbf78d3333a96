"""A deployment under the users of `deploy/redis`: each process has the URL of its role."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.users import GuardedRedis
from tests.service.cli import CommandLine

TAKEN_WELL = ("client", "client|setinfo", "scan")
"""The client library introduces itself, and `doctor` looks for keys of others; both do without."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    server = GuardedRedis(tmp_path_factory.mktemp("guarded")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def emptied(guarded: GuardedRedis, watched: None) -> None:
    """As `watched`, on a Redis that holds nothing at first."""
    with guarded.client() as client:
        client.flushall()


@pytest.fixture
def watched(guarded: GuardedRedis) -> Iterator[None]:
    """Redis knows no script at first, and has denied nobody anything in the end."""
    with guarded.client() as client:
        client.script_flush()
        client.acl_log_reset()
    yield
    assert [denial for denial in guarded.denials() if denial["object"] not in TAKEN_WELL] == []


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """Whatever a test leaves running is ended."""
    command_line = CommandLine(tmp_path)
    yield command_line
    command_line.kill()
