"""Processes that have imported the command line already: they start within milliseconds instead of a second.

Run as a module it is the server: it reads what to run, line by line, forks for each, and answers with the exit code.
"""

import atexit
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import psutil

from rollforward.cli.main import main

PRELOADED = ("run", "resume", "ls", "status", "items", "errors", "results", "verify", "cancel", "config", "doctor")
_REPOSITORY = Path(__file__).parents[2]


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


class ForkServer:
    """Starts commands in a folder and an environment of their own, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.forking"],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], output: Path, seconds: float
    ) -> int:
        """Run a command to its end and give its exit code; its two streams go to `out` and `err` in `output`."""
        asked = {"arguments": arguments, "folder": str(folder), "environment": dict(environment), "output": str(output)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select([self._process.stdout], [], [], seconds)
        if not ready:
            for child in psutil.Process(self._process.pid).children():
                child.kill()
        # One line is one answer: nothing of the next is read with it.
        code = int(self._process.stdout.readline())
        assert ready, f"{arguments} did not end within {seconds} s"
        return code

    def close(self) -> None:
        self._process.communicate()


@cache
def _server() -> ForkServer:
    server = ForkServer()
    atexit.register(server.close)
    return server


def forked(arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], seconds: float) -> Ended:
    """Run a command to its end, in a process that has imported the command line already."""
    with TemporaryDirectory() as output:
        code = _server().run(arguments, folder=folder, environment=environment, output=Path(output), seconds=seconds)
        return Ended(code, (Path(output) / "out").read_text(), (Path(output) / "err").read_text())


def _serve() -> None:
    for name in PRELOADED:
        import_module(f"rollforward.cli.{name}")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be(**json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be(*, arguments: Sequence[str], folder: str, environment: Mapping[str, str], output: str) -> NoReturn:
    """Be the command that was asked for."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, stream in enumerate((os.devnull, f"{output}/out", f"{output}/err")):
        file = os.open(stream, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    code: object = 1
    try:
        main(arguments)
    except SystemExit as ending:
        code = ending.code
    except BaseException:  # noqa: BLE001 - it is shown as Python shows it, and the process ends
        traceback.print_exc()
    # Nothing is registered to happen at exit, and taking all that was imported down again takes half a second.
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
