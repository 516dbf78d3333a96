"""What one delivery of an instance puts out."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.capture.bounded import HeadAndTail
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


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How much of an instance's output is kept, and from which level on its log records are."""

    max_bytes: int = DEFAULT_LOG_BYTES
    level: int = logging.INFO


class Capture:
    """Takes text and log records of one delivery, from any thread, bounded and without secrets.

    `catch_up` brings what was written where it is not taken at once; it is called before anything else is added.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self.options = options
        self._texts: dict[LogStream, TextOfPieces] = {}
        self._writers: dict[LogStream, Writer] = {}
        self._kept: HeadAndTail | None = None
        self._lock = threading.Lock()
        self.pid = os.getpid()
        self.catch_up: Callable[[], None] = _nothing

    def write(self, stream: LogStream, piece: str | bytes, writer: Writer = NOBODY) -> None:
        """Take what was written to a stream; a line is that of whoever ends it."""
        with self._turn():
            if stream not in self._texts:
                self._texts[stream] = TextOfPieces()
            self._writers[stream] = writer
            for begin in range(0, len(piece), PIECE_LENGTH):
                self._add(stream, self._texts[stream].feed(piece[begin : begin + PIECE_LENGTH]), writer)

    def log(self, record: logging.LogRecord) -> None:
        """Take a log record, with its traceback."""
        if record.levelno >= self.options.level:
            with self._turn():
                self._add(LogStream.LOG, _message(record), current_writer(), level=record.levelname, logger=record.name)

    def fail(self, traceback: str) -> None:
        """Take the traceback that the instance ended with."""
        self.catch_up()
        with self._turn():
            self._add(LogStream.LOG, _one_record(traceback), NOBODY, level="ERROR", logger=INSTANCE_LOGGER)

    def take(self, *, is_over: bool = False) -> tuple[LogLine, ...]:
        """The lines that have come since the last time, as far as they can be given by now."""
        with self._turn():
            for stream, text in self._texts.items() if is_over else ():
                self._add(stream, text.finish(), self._writers[stream])
            return () if self._kept is None else tuple(self._kept.take(is_over=is_over))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One thread at a time; what a redactor, or a collector of garbage, prints in here passes by."""
        with uncaptured(), self._lock:
            yield

    def _add(
        self,
        stream: LogStream,
        text: str | None,
        writer: Writer,
        *,
        level: str | None = None,
        logger: str | None = None,
    ) -> None:
        if text is None:
            return
        at, (inner_node, attempt) = datetime.now(UTC), writer
        line = LogLine(
            stream=stream, text=text, at=at, level=level, logger=logger, inner_node=inner_node, attempt=attempt
        )
        # Most instances put out nothing.
        self._kept = self._kept or HeadAndTail(self.options.max_bytes)
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
