"""Pipes that are read by a thread of their own."""

import contextlib
import fcntl
import logging
import os
import select
import selectors
import threading
from collections.abc import Callable
from functools import cache

from orchestrator.capture.capture import PATIENCE_SECONDS, THREADS, uncaptured

log = logging.getLogger(__name__)

PIPE_BYTES = 262_144
"""What a pipe holds that nobody has read yet, where the system grants that much.

All pipes of a user have 64 MiB between them before the system makes new ones small.
"""

_PIECE_BYTES = 65_536

Take = Callable[[bytes], object]


class Pipe:
    """Has a descriptor lead into a pipe; what comes out of it is passed on to the descriptor `past`.

    Until it is left, `take` is given it as well. Whoever writes to it later still, such as a child process, is not cut
    off: that is passed on for as long as this process lives.

    Raises:
        OSError: there are no more descriptors.
    """

    def __init__(self, number: int, past: int, take: Take) -> None:
        self._number = number
        self._past = past
        self._take: Take | None = take
        self._lock = threading.RLock()
        self._reader = _reader(os.getpid())
        self._end, writing = os.pipe()
        # A finalizer may print and so read it, between the look and the reading. Whoever writes to it waits as before.
        os.set_blocking(self._end, False)
        self._is_over = False
        self._is_stuck = False
        self._look = select.poll()
        self._look.register(self._end, select.POLLIN)
        _widen(self._end)
        os.dup2(writing, number)
        os.close(writing)
        self._reader.add(self._end, self.pump)

    def pump(self) -> None:
        """Pass on what is in the pipe, and no more than it can hold: somebody may be writing without end."""
        with self._lock:
            self._pass_on()

    def catch_up(self) -> None:
        """Do so before something else is written, but let nothing wait for ever.

        Another thread may be in here, in a finalizer that wants a lock which the caller holds. Then the order of what
        is written is given up, once that has lasted.
        """
        if self._lock.acquire(True, 0 if self._is_stuck else PATIENCE_SECONDS):
            try:
                self._is_stuck = False
                # Mostly there is nothing, and to look costs less than an error.
                if self._look.poll(0):
                    self._pass_on()
            finally:
                self._lock.release()
        else:
            self._is_stuck = True

    def leave(self) -> None:
        """Have the descriptor lead where it led before; what was written until then is taken."""
        with self._lock:
            if self._is_over:
                os.dup2(self._past, self._number)
                return
            # Mostly nobody else writes to it; then its end is seen here, and the reader need not wake for it.
            self._reader.remove(self._end)
            os.dup2(self._past, self._number)
            is_over = self._pump()
            self._take = None
            if is_over:
                self._close()
            else:
                self._reader.add(self._end, self.pump)

    def _pass_on(self) -> None:
        self._is_stuck = False
        if not self._is_over and self._pump():
            self._reader.remove(self._end)
            self._close()

    def _pump(self) -> bool:
        """Whether nobody can write to it any more."""
        pieces = PIPE_BYTES // _PIECE_BYTES
        while pieces and self._look.poll(0):
            with uncaptured():
                piece = self._read()
                if piece is None:
                    return False
                if not piece:
                    return True
                if self._take is not None:
                    self._take(piece)
                # This may wait for whoever reads it, and what is taken need not.
                _write(self._past, piece)
            pieces -= 1
        return False

    def _read(self) -> bytes | None:
        """What is in the pipe: None where that is nothing, and no bytes where nothing can come any more."""
        try:
            return os.read(self._end, _PIECE_BYTES)
        except BlockingIOError:
            return None

    def _close(self) -> None:
        self._is_over = True
        os.close(self._end)


class _Reader:
    """The thread of this process that reads pipes as they fill."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        threading.Thread(target=self._run, name=f"{THREADS}output", daemon=True).start()

    def add(self, end: int, pump: Callable[[], None]) -> None:
        self._selector.register(end, selectors.EVENT_READ, pump)

    def remove(self, end: int) -> None:
        self._selector.unregister(end)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                try:
                    key.data()
                except Exception:
                    # Without this thread, whoever writes to a pipe would wait for ever.
                    log.exception("output not read, going on")


@cache
def _reader(_pid: int) -> _Reader:
    return _Reader()


def _widen(end: int) -> None:
    """Let C code write more before the reading thread gets a turn, which needs Python's lock."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _write(number: int, piece: bytes) -> None:
    # Where nobody reads it any more, the instance must not be disturbed by that.
    with contextlib.suppress(OSError):
        while piece:
            piece = piece[os.write(number, piece) :]
