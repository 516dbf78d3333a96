"""What is written to a file descriptor by whoever writes to it: C code and child processes too."""

import contextlib
import ctypes
import os
from functools import cache
from typing import Any

from orchestrator.capture.pipe import Pipe, Take


class Tap:
    """A pipe in place of a descriptor, for the time between `open` and `close`; it may be opened again.

    A file would fill memory or a disk, and whoever opens `/dev/stdout` anew would empty it. It is another pipe each
    time, so that what goes on writing after `close` is not taken for what comes next. `past` is a text stream, written
    as `like` is, that leads to where the descriptor led.

    Raises:
        OSError: there are no more descriptors.
    """

    def __init__(self, number: int, like: Any) -> None:
        self.number = number
        self._real = os.dup(number)
        spelling = {fact: getattr(like, fact, None) for fact in ("encoding", "errors")}
        self.past: Any = open(self._real, "w", buffering=1, closefd=False, **spelling)  # noqa: SIM115 - it stays open
        self._pipe: Pipe | None = None

    def open(self, take: Take) -> None:
        """Give everything that is written to the descriptor to `take`, and to where it went before.

        Raises:
            OSError: there are no more descriptors.
        """
        os.dup2(self.number, self._real, inheritable=False)
        self._pipe = Pipe(self.number, self._real, take)

    def catch_up(self) -> None:
        """Give what was written since the last time."""
        if self._pipe is not None:
            self._pipe.catch_up()

    def close(self) -> None:
        """Put the descriptor back, and give the rest."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.leave()

    def discard(self) -> None:
        """Close what leads to where the descriptor led; it is not opened any more."""
        self.past.close()
        os.close(self._real)


class _C:
    """The C library of this process, as far as it knows this call."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None)
        self._stdout: Any = None
        with contextlib.suppress(ValueError):
            self._stdout = ctypes.c_void_p.in_dll(self._library, "stdout")

    def flush_stdout(self) -> None:
        """Have it write what C code has printed: to a pipe it does so late."""
        if self._stdout is not None:
            self._library.fflush(self._stdout)


@cache
def _c() -> _C:
    return _C()


def flush_c_output() -> None:
    """Have C code write what it has printed so far."""
    _c().flush_stdout()
