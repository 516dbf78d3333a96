"""The command line, each test in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.cli import CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """Embedded, with nothing configured; whatever a test leaves running is ended."""
    command_line = CommandLine(tmp_path)
    yield command_line
    command_line.kill()
