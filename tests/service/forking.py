"""Processes that have imported already what they need: they start within milliseconds instead of a second."""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

Program = Literal["celery", "rollforward"]

LARGEST_REQUEST = 1 << 17
_REPOSITORY = Path(__file__).parents[2]
_START_SECONDS = 60
_CRASH = "ROLLFORWARD_CRASH"
_READ_AT_START = ("LD_PRELOAD", "PYTHONPATH", "REMAP_SIGTERM", _CRASH)
"""Variables that a process reads before it can be forked."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


class Forked:
    """A process with what `subprocess.Popen` has of it; it is reaped as soon as it has ended.

    What it writes is kept in files of its own, where `log` does not take both streams.
    """

    def __init__(
        self,
        program: Program,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: IO[bytes] | None = None,
    ) -> None:
        assert environment.get(_CRASH) == os.environ.get(_CRASH), "it would not crash"
        self.args = (program, *arguments)
        self.returncode: int | None = None
        self._files: list[IO[bytes]] = []
        if log is None:
            self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - `communicate` closes them
        self._written = ("", "")
        asked = {"program": program, "arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        streams = self._files if log is None else [log, log]
        self._answers = _server().ask(asked, [stream.fileno() for stream in streams])
        self.pid = int(self._answer(_START_SECONDS))

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and give the exit code."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it has ended, and give what it has written."""
        self.wait(timeout)
        if self._files:
            out, err = (_whole(file) for file in self._files)
            self._files, self._written = [], (out, err)
        return self._written

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._answers], [], [], timeout)[0]:
            self.returncode = int(self._answer(0))
            self._answers.close()
        return self.returncode

    def _answer(self, timeout: float) -> bytes:
        assert select.select([self._answers], [], [], timeout)[0], f"{self.args} was not started"
        line = self._answers.readline()
        assert line, "the server of forks has ended"
        return line


class _ForkServer:
    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.service.fork_server", str(theirs.fileno())],
                cwd=_REPOSITORY,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def ask(self, asked: Mapping[str, Any], streams: Sequence[int]) -> IO[bytes]:
        """Have a process started; where its pid is written, and later its exit code."""
        request = json.dumps(asked).encode()
        assert len(request) < LARGEST_REQUEST
        reading, writing = os.pipe()
        socket.send_fds(self._socket, [request], [writing, *streams])
        os.close(writing)
        # Unbuffered: what was read ahead would not be waited for.
        return os.fdopen(reading, "rb", buffering=0)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _server() -> _ForkServer:
    server = _ForkServer()
    atexit.register(server.close)
    return server


def can_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment starts as it would if it was not forked."""
    return all(environment.get(name) == os.environ.get(name) for name in _READ_AT_START)


def forked(arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], seconds: float) -> Ended:
    """Run a command of `rollforward` to its end, in a process that has imported the command line already.

    It is one that is not to crash, whatever the environment asks of others.
    """
    calm = {name: value for name, value in environment.items() if name != _CRASH}
    process = Forked("rollforward", arguments, folder=folder, environment=calm)
    try:
        process.wait(seconds)
    finally:
        process.kill()
        out, err = process.communicate()
    return Ended(process.wait(), out, err)


def _whole(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode()
