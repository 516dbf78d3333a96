"""A deployment under the users of `deploy/redis`: each process has the URL of its role."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.users import GuardedRedis
from tests.service.cli import CommandLine


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    server = GuardedRedis(tmp_path_factory.mktemp("guarded")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """Whatever a test leaves running is ended."""
    command_line = CommandLine(tmp_path)
    yield command_line
    for process in command_line.processes():
        process.kill()
