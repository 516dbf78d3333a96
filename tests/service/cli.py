"""The command line as a user has it: real processes in a folder of their own."""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.service.forking import Ended, forked
from tests.service.worker import REPOSITORY, wait_until

MARK = "ROLLFORWARD_TEST_MARK"
_ENDS_WITHIN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs `rollforward` in `folder`; the settings of this process do not reach it."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self, *arguments: str) -> Ended:
        """Run a command to its end, in a process that has imported the command line already."""
        return forked(arguments, folder=self.folder, environment=self._environment(), seconds=_ENDS_WITHIN_SECONDS)

    def ok(self, *arguments: str) -> Ended:
        """Run a command that must succeed."""
        ended = self.run(*arguments)
        assert ended.code == 0, ended.stderr
        return ended

    @contextmanager
    def started(self, *arguments: str, stderr: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on; it is killed at the end where it still runs. `stderr` is a file to write it to."""
        with ExitStack() as stack:
            process = subprocess.Popen(
                [sys.executable, "-m", "rollforward", *arguments],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if stderr is None else stack.enter_context(stderr.open("w")),
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            yield process

    def processes(self) -> list[psutil.Process]:
        """Every process that commands of this object started and that still lives.

        They are told by their environment; Redis overwrites its own, and is told by where it works. What is asked of
        them later fails where they have ended meanwhile; `info` has their command lines and beginnings of now.
        """
        return [process for process in psutil.process_iter(["cmdline", "create_time"]) if self._is_ours(process)]

    def kill(self) -> None:
        """SIGKILL every process that still lives."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def wait_until_gone(self) -> None:
        """Wait until none of them is left."""
        wait_until(lambda: not self.processes(), what="no process is left", because=lambda: str(self.processes()))

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            is_marked = process.environ().get(MARK) == self.mark
            is_here = Path(process.cwd()).is_relative_to(self.folder)
            return (is_marked or is_here) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "CELERY_"))
        }
        python_path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
        return {**inherited, "PYTHONPATH": python_path, MARK: self.mark, **self.environment}
