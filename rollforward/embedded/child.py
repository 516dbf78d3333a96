"""A process that the keeper starts, starts again, and ends with all of its group."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rollforward.embedded.log_file import LogFile
from rollforward.liveness import facts_of

QUICK_END = timedelta(seconds=5)
MOST_QUICK_ENDS = 3
REFUSED = 2
"""The exit code of a command that was called or configured wrongly: the next one would end with it as well."""

_PR_SET_PDEATHSIG = 1
_prctl: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class Child:
    """One long-lived process of the embedded deployment.

    It is started in a process group of its own and, on Linux, dies with the keeper whatever kills that. One that
    ends by itself is started again, unless it keeps ending at once or says that it is configured wrongly.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        inherited: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._log = LogFile(log)
        self._environment = environment
        self._inherited = inherited
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._quick_ends = 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_hopeless(self) -> bool:
        """Whether it ended in a way, or so often right after its start, that another one would as well."""
        is_refused = self._process is not None and self._process.poll() == REFUSED
        return is_refused or self._quick_ends >= MOST_QUICK_ENDS

    @property
    def facts(self) -> dict[str, int] | None:
        """Its pid and when it started; None while it does not run."""
        if self._process is None or not self.is_running:
            return None
        return facts_of(self._process.pid)

    def start(self) -> None:
        self._started_at = time.monotonic()
        with self._log.path.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                pass_fds=self._inherited,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),
            )

    def keep_running(self) -> bool:
        """Start it again where it has ended; true where that was done."""
        if self.is_running or self.is_hopeless:
            return False
        lived = time.monotonic() - self._started_at
        self._quick_ends = self._quick_ends + 1 if lived < QUICK_END.total_seconds() else 0
        if self.is_hopeless:
            return False
        self._kill_group()
        self.start()
        return True

    def end(self, grace: timedelta) -> None:
        """Ask it to end, wait that long, then kill it and whatever is left of its group."""
        if self._process is None:
            return
        if self.is_running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace.total_seconds())
        self._kill_group()
        self._process.wait()

    def last_words(self) -> str:
        """The last line that it logged."""
        return self._log.last_line() or "it said nothing"

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _die_with(parent: int) -> Callable[[], None] | None:
    if _prctl is None:
        return None

    def prepare() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
