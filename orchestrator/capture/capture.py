"""What one delivery of an instance puts out."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.capture.bounded import HeadAndTail
from orchestrator.capture.line import LogLine, LogStream
from orchestrator.capture.text import TextOfPieces, plain
from orchestrator.redaction import redacted

DEFAULT_LOG_BYTES = 65_536
LEAST_LOG_BYTES = 1024
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
        self._kept: HeadAndTail | None = None
        self._lock = threading.Lock()
        self.pid = os.getpid()
        self.catch_up: Callable[[], None] = _nothing

    def write(self, stream: LogStream, piece: str | bytes) -> None:
        """Take what was written to a stream."""
        with self._turn():
            if stream not in self._texts:
                self._texts[stream] = TextOfPieces()
            self._add(stream, self._texts[stream].feed(piece))

    def log(self, record: logging.LogRecord) -> None:
        """Take a log record, with its traceback."""
        if record.levelno >= self.options.level:
            with self._turn():
                self._add(LogStream.LOG, [_message(record)], level=record.levelname, logger=record.name)

    def fail(self, traceback: str) -> None:
        """Take the traceback that the instance ended with."""
        self.catch_up()
        with self._turn():
            self._add(LogStream.LOG, [_one_record(traceback)], level="ERROR", logger=INSTANCE_LOGGER)

    def take(self, *, is_over: bool = False) -> tuple[LogLine, ...]:
        """The lines that have come since the last time, as far as they can be given by now."""
        self.catch_up()
        with self._turn():
            for stream, text in self._texts.items() if is_over else ():
                self._add(stream, text.finish())
            return () if self._kept is None else tuple(self._kept.take(is_over=is_over))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One thread at a time; what a redactor prints in here passes by."""
        with self._lock, uncaptured():
            yield

    def _add(
        self, stream: LogStream, texts: Iterable[str], *, level: str | None = None, logger: str | None = None
    ) -> None:
        at = datetime.now(UTC)
        for text in texts:
            # Most instances put out nothing.
            self._kept = self._kept or HeadAndTail(self.options.max_bytes)
            self._kept.add(LogLine(stream=stream, text=text, at=at, level=level, logger=logger))


_current: ContextVar[Capture | None] = ContextVar("rollforward_capture", default=None)
_is_paused: ContextVar[bool] = ContextVar("rollforward_capture_is_paused", default=False)
_alone: list[Capture] = []


def current_capture() -> Capture | None:
    """What takes the output of this code; None outside any instance whose output is wanted.

    A process that was forked meanwhile has none: it would keep to itself what it takes.
    """
    if _is_paused.get():
        return None
    capture = _current.get() or (None if _is_in_thread_of_ours() else capture_alone())
    return capture if capture is not None and capture.pid == os.getpid() else None


@contextmanager
def captured_by(capture: Capture) -> Iterator[None]:
    """Have `capture` take the output of this code, and of what it starts."""
    kept = _current.set(capture)
    try:
        yield
    finally:
        _current.reset(kept)


def capture_alone() -> Capture | None:
    """What takes the output of this whole process; None where instances run beside each other."""
    return next(reversed(_alone), None)


@contextmanager
def alone(capture: Capture) -> Iterator[None]:
    """Have `capture` take the output of all code of this process that nothing else takes: nothing runs beside it."""
    _alone.append(capture)
    try:
        yield
    finally:
        _alone.remove(capture)


def _is_in_thread_of_ours() -> bool:
    """Whether this thread serves the whole process; what it does for an instance, it does in that one's context."""
    return threading.current_thread().name.startswith(THREADS)


@contextmanager
def uncaptured() -> Iterator[None]:
    """Let output pass by."""
    kept = _is_paused.set(True)
    try:
        yield
    finally:
        _is_paused.reset(kept)


def _message(record: logging.LogRecord) -> str:
    try:
        return _one_record(logging.Formatter("%(message)s").format(record))
    except Exception:  # noqa: BLE001 - what the record holds is the user's
        return _one_record(f"{record.msg!r} {record.args!r}")


def _one_record(text: str) -> str:
    return redacted(plain(text.rstrip("\n")))


def _nothing() -> None:
    return None
