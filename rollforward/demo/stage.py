import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

from rollforward.demo.witness import Witness

WITNESS = "ROLLFORWARD_WITNESS"


class DemoFailed(click.ClickException):
    """The demo could not show what it promises; the message says why."""


def find_checkout() -> Path:
    """The folder that holds `examples/`: the current one, or the one this package is installed from.

    Raises:
        DemoFailed: neither does; the examples are no part of the wheel.
    """
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        if (folder / "examples" / "stdlib_audit.py").is_file():
            return folder
    raise DemoFailed("the examples are not part of the installed package; run `rollforward demo` in a checkout")


@dataclass(frozen=True, slots=True)
class Stage:
    """A fresh folder in which the demo's commands run embedded, and all that belongs to them.

    `checkout` is where `examples/` lies.
    """

    folder: Path
    checkout: Path

    @property
    def witness(self) -> Witness:
        return Witness(self.folder / "witness.txt")

    def environment(self) -> dict[str, str]:
        """The caller's, without settings that would send the run to a deployment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "CELERY_"))}
        return {**kept, WITNESS: str(self.witness.path), "PYTHONPATH": str(self.checkout)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a rollforward command; its stderr is the caller's."""
        command = [sys.executable, "-m", "rollforward", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, *arguments: str, seconds: float = 240) -> str:
        """Run a rollforward command to its end and answer what it printed on stdout."""
        with self.start(*arguments) as process:
            printed, _ = process.communicate(timeout=seconds)
        if process.returncode != 0:
            raise DemoFailed(f"`rollforward {' '.join(arguments)}` ended with exit code {process.returncode}")
        return printed

    def ask_json(self, *arguments: str) -> Any:
        return json.loads(self.ask(*arguments, "-o", "json"))

    def processes(self) -> Iterator[psutil.Process]:
        """Every process that the commands started and that still lives, told by its environment."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(WITNESS) == str(self.witness.path) and process.is_running():
                    yield process
            except psutil.Error:
                continue

    def clear(self) -> None:
        """End whatever is left."""
        for process in self.processes():
            process.kill()


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60, every: float = 0.02) -> None:
    """Wait until the condition holds.

    Raises:
        DemoFailed: it did not within `seconds`; the message names `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {seconds:g} s in vain until {what}")
        time.sleep(every)
