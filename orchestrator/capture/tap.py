"""What is written to a file descriptor by whoever writes to it: C code and child processes too."""

import contextlib
import ctypes
import fcntl
import os
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

_PIECE_BYTES = 65_536
_FREED_BYTES = 1_048_576
_PUNCH_HOLE = 3


class Tap:
    """A file of memory in place of a descriptor, for the time between `open` and `close`; it may be opened again.

    A pipe would make whoever writes wait for whoever reads, and a plain file would fill a disk. What a child process
    goes on writing after `close` is passed on, and taken, when the tap is opened the next time. `past` is a text
    stream, written as `like` is, that leads to where the descriptor led.

    Raises:
        OSError: there are no more descriptors.
    """

    def __init__(self, number: int, like: Any) -> None:
        self.number = number
        self._file = _file_of_memory()
        self._real = os.dup(number)
        spelling = {fact: getattr(like, fact, None) for fact in ("encoding", "errors")}
        self.past: Any = open(self._real, "w", buffering=1, closefd=False, **spelling)  # noqa: SIM115 - it stays open
        self._read_bytes = self._freed_bytes = 0
        self._lock = threading.Lock()
        self._take: Callable[[bytes], Any] | None = None

    def open(self, take: Callable[[bytes], Any]) -> None:
        """Give everything that is written to the descriptor to `take`, and to where it went before."""
        os.dup2(self.number, self._real, inheritable=False)
        os.dup2(self._file, self.number)
        self._take = take

    def pump(self) -> None:
        """Give what was written since the last time."""
        with self._lock:
            while self._take is not None and (piece := os.pread(self._file, _PIECE_BYTES, self._read_bytes)):
                self._read_bytes += len(piece)
                _write(self._real, piece)
                self._take(piece)
            if self._read_bytes - self._freed_bytes >= _FREED_BYTES:
                self._freed_bytes = self._read_bytes
                _c().free(self._file, self._freed_bytes)

    def close(self) -> None:
        """Put the descriptor back, and give the rest."""
        os.dup2(self._real, self.number)
        self.pump()


class _C:
    """The C library of this process, as far as it knows these calls."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None)
        self._stdout: Any = None
        with contextlib.suppress(ValueError):
            self._stdout = ctypes.c_void_p.in_dll(self._library, "stdout")

    def flush_stdout(self) -> None:
        """Have it write what C code has printed: to a file it does so late."""
        if self._stdout is not None:
            self._library.fflush(self._stdout)

    def free(self, file: int, byte_count: int) -> None:
        """Give back the memory of the first bytes of a file; it stays as long as it is."""
        with contextlib.suppress(AttributeError):
            self._library.fallocate(file, _PUNCH_HOLE, ctypes.c_longlong(0), ctypes.c_longlong(byte_count))


@cache
def _c() -> _C:
    return _C()


def flush_c_output() -> None:
    """Have C code write what it has printed so far."""
    _c().flush_stdout()


def _file_of_memory() -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("rollforward-output", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as made:
            file = os.dup(made.fileno())
    # Several processes write at its end.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def _write(number: int, piece: bytes) -> None:
    # Where nobody reads it any more, the instance must not be disturbed by that.
    with contextlib.suppress(OSError):
        while piece:
            piece = piece[os.write(number, piece) :]
