"""A worker or an orchestrator of a deployment: a process group that is killed, frozen, woken and started again."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.service.worker import REPOSITORY

_HOST = (sys.executable, "-m", "tests.chaos.process.host")


class Member:
    """One process with what it has forked, on a host of its own; its log goes on over its lives."""

    def __init__(self, name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.lives = 0
        self._command = [*_HOST, f"{name}-host", sys.executable, "-m", *command]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def pids(self) -> set[int]:
        """Its own and those of its children."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return {self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))}
        return {self.pid}

    @property
    def exit_code(self) -> int | None:
        """How it ended by itself; None while it runs, and where it was killed from here."""
        return None if self._process is None else self._process.poll()

    @property
    def is_there(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        self.lives += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=self._environment,
                start_new_session=True,
            )

    def kill(self) -> set[int]:
        """SIGKILL it alone; the pids that go with it."""
        return self._end(lambda pid: os.kill(pid, signal.SIGKILL))

    def kill_group(self) -> set[int]:
        """SIGKILL its process group at once."""
        return self._end(lambda pid: os.killpg(pid, signal.SIGKILL))

    def freeze(self) -> set[int]:
        """SIGSTOP it and its children; the pids."""
        return self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT what is frozen."""
        self._signal(signal.SIGCONT)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _signal(self, number: signal.Signals) -> set[int]:
        pids = self.pids
        for pid in sorted(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def _end(self, kill) -> set[int]:
        if self._process is None:
            return set()
        pids, process, self._process = self.pids, self._process, None
        with contextlib.suppress(ProcessLookupError):
            kill(process.pid)
        process.wait(timeout=30)
        for pid in pids:
            _wait_until_gone(pid)
        return pids

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process


def _wait_until_gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=5)
            return
        process.kill()
