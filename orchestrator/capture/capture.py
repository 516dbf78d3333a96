"""What one delivery of an instance puts out."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from orchestrator.capture.bounded import HeadAndTail, Limits
from orchestrator.capture.clean import CleanLines
from orchestrator.capture.line import NOBODY, LogLine, LogStream, Writer
from orchestrator.capture.text import TextOfPieces, plain
from orchestrator.capture.threads import busy_threads
from orchestrator.capture.written import Written
from orchestrator.context import current_attempt_index
from orchestrator.observers.site import current_site

DEFAULT_LOG_BYTES = 65_536
LEAST_LOG_BYTES = 1024
PIECE_LENGTH = 65_536
"""So much is taken at a time, of what is written at once."""
INSTANCE_LOGGER = "rollforward.instance"
THREADS = "rollforward-"
"""What the names of the threads of ours begin with."""
PATIENCE_SECONDS = 5.0
"""So long one waits for another thread that may be in a finalizer, and that may wait for what this one holds."""

_MOST_WAITING = 256
_BREATH_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How much of an instance's output is kept, and from which level on its log records are."""

    max_bytes: int = DEFAULT_LOG_BYTES
    level: int = logging.INFO


class _Piece(NamedTuple):
    """What was written to a stream, or logged, and is to be made lines of."""

    stream: LogStream
    text: str | bytes
    at: datetime
    writer: Writer = NOBODY
    level: str | None = None
    logger: str | None = None


class Capture:
    """Takes text and log records of one delivery, from any thread, bounded and without secrets.

    `catch_up` brings what was written where it is not taken at once; it is called before anything else is added.

    Whoever writes waits for nobody that runs code of the user's, be it a redactor or a finalizer: that may wait in turn
    for what the writer holds. So a piece is put in line, and is seen to by whoever gets the turn: mostly the writer.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self.options = options
        self._waiting: deque[_Piece] = deque()
        self._lock = threading.Lock()
        self._texts: dict[LogStream, TextOfPieces] = {}
        self._writers: dict[LogStream, Writer] = {}
        self._limits = Limits(options.max_bytes)
        self._kept = HeadAndTail(self._limits)
        self._clean = CleanLines(self._limits)
        self.pid = os.getpid()
        self.catch_up: Callable[[], None] = _nothing

    def write(self, stream: LogStream, piece: str | bytes, writer: Writer = NOBODY) -> None:
        """Take what was written to a stream; a line is that of whoever ends it."""
        self._put(_Piece(stream, piece, datetime.now(UTC), writer))

    def log(self, record: logging.LogRecord) -> None:
        """Take a log record, with its traceback."""
        if record.levelno >= self.options.level:
            with uncaptured():
                text = _message(record)
            at = datetime.now(UTC)
            self._put(_Piece(LogStream.LOG, text, at, current_writer(), record.levelname, record.name))

    def fail(self, traceback: str) -> None:
        """Take the traceback that the instance ended with."""
        self.catch_up()
        text = _one_record(traceback)
        self._put(_Piece(LogStream.LOG, text, datetime.now(UTC), level="ERROR", logger=INSTANCE_LOGGER))

    def take(self, *, is_over: bool = False) -> tuple[LogLine, ...]:
        """The lines that have come since the last time, as far as they can be given by now; for one thread at a time.

        What a redactor prints in here passes by. Where another thread does not come to an end, there are none.
        """
        with uncaptured():
            if not self._lock.acquire(timeout=PATIENCE_SECONDS):
                return ()
            try:
                self._keep_waiting()
                if is_over:
                    self._finish()
                kept = self._kept.take(is_over=is_over)
            finally:
                self._lock.release()
            return tuple(self._clean.of(kept, is_over=is_over))

    def _put(self, piece: _Piece) -> None:
        self._waiting.append(piece)
        # Of two that write without end, one must not put more in line than the other gets done.
        patience = _BREATH_SECONDS if len(self._waiting) > _MOST_WAITING else 0
        with uncaptured():
            if self._lock.acquire(timeout=patience):
                try:
                    self._keep_waiting()
                finally:
                    self._lock.release()

    def _keep_waiting(self) -> None:
        """See to what is in line by now, and no more: others may be writing without end."""
        for _ in range(len(self._waiting)):
            piece = self._waiting.popleft()
            if isinstance(piece.text, str) and piece.stream is LogStream.LOG:
                self._keep(piece, piece.text)
            else:
                self._feed(piece)

    def _feed(self, piece: _Piece) -> None:
        if piece.stream not in self._texts:
            self._texts[piece.stream] = TextOfPieces()
        self._writers[piece.stream] = piece.writer
        text = self._texts[piece.stream]
        for begin in range(0, len(piece.text), PIECE_LENGTH):
            whole = text.feed(piece.text[begin : begin + PIECE_LENGTH])
            if whole is not None:
                self._keep(piece, whole)

    def _finish(self) -> None:
        for stream, text in self._texts.items():
            rest = text.finish()
            if rest is not None:
                self._keep(_Piece(stream, rest, datetime.now(UTC), self._writers[stream]), rest)

    def _keep(self, piece: _Piece, text: str) -> None:
        inner_node, attempt = piece.writer
        line = LogLine(
            stream=piece.stream,
            text=text,
            at=piece.at,
            level=piece.level,
            logger=piece.logger,
            inner_node=inner_node,
            attempt=attempt,
        )
        self._kept.add(Written(line))


_current: ContextVar[Capture | None] = ContextVar("rollforward_capture", default=None)


class _Paused(threading.local):
    depth = 0


# A variable of the context that is set for every piece crashes CPython 3.11 where a collector of garbage, in the midst
# of that, runs what prints. And what is begun in here would be passed by for ever.
_paused = _Paused()
_alone: list[tuple[Capture, frozenset[threading.Thread]]] = []


def current_writer() -> Writer:
    """The node whose code this is, and its try; nobody in a thread that somebody started without its context."""
    site = current_site()
    if site is None:
        return NOBODY
    own = site.namespace[len(site.frame.levels) :]
    return "/".join((*site.frame.namespace, *own)), current_attempt_index()


def current_capture() -> Capture | None:
    """What takes the output of this code; None outside any instance whose output is wanted.

    A process that was forked meanwhile has none: it would keep to itself what it takes.
    """
    if _paused.depth:
        return None
    capture = _current.get() or _capture_of_thread()
    return capture if capture is not None and capture.pid == os.getpid() else None


@contextmanager
def captured_by(capture: Capture) -> Iterator[None]:
    """Have `capture` take the output of this code, and of what it starts."""
    kept = _current.set(capture)
    # An error that a handler of signals raised may have kept `uncaptured` from its end.
    _paused.depth = 0
    try:
        yield
    finally:
        _current.reset(kept)


def capture_alone() -> Capture | None:
    """What takes the output of this whole process; None where instances run beside each other."""
    last = next(reversed(_alone), None)
    return None if last is None else last[0]


@contextmanager
def alone(capture: Capture) -> Iterator[None]:
    """Have `capture` take the output of all code of this process that nothing else takes: nothing runs beside it.

    Threads that are busy by now are left out: what they do, they do for somebody else.
    """
    entry = (capture, frozenset(busy_threads()))
    _alone.append(entry)
    try:
        yield
    finally:
        _alone.remove(entry)


def _capture_of_thread() -> Capture | None:
    """That of the whole process, unless this thread serves the process, or is at work since before."""
    last = next(reversed(_alone), None)
    if last is None:
        return None
    capture, busy = last
    thread = threading.current_thread()
    # What a thread of ours does for an instance, it does in that one's context.
    return None if thread in busy or thread.name.startswith(THREADS) else capture


class uncaptured:
    """Let output of this thread pass by, in a `with` that awaits nothing; as quick as can be, for every piece."""

    __slots__ = ()

    def __enter__(self) -> None:
        _paused.depth += 1

    def __exit__(self, *_: object) -> None:
        _paused.depth -= 1


def _message(record: logging.LogRecord) -> str:
    try:
        return _one_record(logging.Formatter("%(message)s").format(record))
    except Exception:  # noqa: BLE001 - what the record holds is the user's
        return _one_record(f"{record.msg!r} {record.args!r}")


def _one_record(text: str) -> str:
    return plain(text.rstrip("\n"))


def _nothing() -> None:
    return None
