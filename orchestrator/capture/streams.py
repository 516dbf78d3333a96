"""The streams and the logs of this process, tapped while the output of any instance is wanted."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cache, partial
from typing import Any

from orchestrator.capture.capture import Capture, alone, capture_alone, captured_by, current_capture, uncaptured
from orchestrator.capture.line import LogStream
from orchestrator.capture.tap import Tap, flush_c_output
from orchestrator.capture.tee import Aside, Tee

_DESCRIPTORS = {LogStream.STDOUT: 1, LogStream.STDERR: 2}


@contextmanager
def capturing(capture: Capture, *, is_alone: bool) -> Iterator[None]:
    """Have `capture` take what the code in here prints and logs; all of it goes where it went before, too.

    `is_alone` where nothing runs beside it in this process: then what child processes, C code and threads of the
    user's write is taken as well.
    """
    with _place(capture, is_alone=is_alone), captured_by(capture):
        yield


def _place(capture: Capture, *, is_alone: bool) -> AbstractContextManager[None]:
    if capture_alone() is not None:
        return nullcontext()
    opened = _opened(capture) if is_alone else None
    return _shared.in_place(capture.options.level) if opened is None else _tapped(capture, opened)


def listen(level: int) -> Callable[[], None]:
    """Put in place what captures need that run beside each other, until what is given is called.

    Whoever knows that several are to come spares each of them doing so, and undoing it.
    """
    _shared.take(level)
    return _shared.leave


class CaptureHandler(logging.Handler):
    """Gives the records of an instance to its capture."""

    def __init__(self, level: int, *, is_only: bool) -> None:
        super().__init__(level)
        self._is_only = is_only

    def createLock(self) -> None:
        """Have none: whoever held it would wait in `emit` for a thread that wants it to log something."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record without a lock."""
        is_wanted = bool(self.filter(record))
        if is_wanted:
            self.emit(record)
        return is_wanted

    def emit(self, record: logging.LogRecord) -> None:
        capture = current_capture()
        if capture is not None:
            capture.catch_up()
            capture.log(record)
        last = logging.lastResort
        if self._is_only and last is not None and record.levelno >= last.level:
            # Without this handler there would be none, and the record would be printed.
            with uncaptured():
                last.handle(record)


class _Shared:
    """What is in place while any instance is captured that may run beside others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undoing = ExitStack()

    def take(self, level: int) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._undoing.enter_context(_replaced({}))
                self._undoing.enter_context(_logs_heard(level))

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undoing.close()

    @contextmanager
    def in_place(self, level: int) -> Iterator[None]:
        self.take(level)
        try:
            yield
        finally:
            self.leave()


_shared = _Shared()


@contextmanager
def _tapped(capture: Capture, opened: Sequence[Tap]) -> Iterator[None]:
    """Take all that this process puts out; what its own streams and handlers write goes past the taps."""
    past = {tap.number: tap.past for tap in opened}
    try:
        with _handlers_writing_to(past), _replaced(past), _logs_heard(capture.options.level), alone(capture):
            yield
    finally:
        _flush()
        _close(opened)


def _opened(capture: Capture) -> Sequence[Tap] | None:
    """The taps of this process, opened; None where it has no descriptors left for them."""
    _flush()
    opened: list[Tap] = []
    try:
        for name, tap in taps(os.getpid()).items():
            tap.open(partial(capture.write, name))
            opened.append(tap)
    except OSError:
        _close(opened)
        return None
    capture.catch_up = partial(_catch_up, opened)
    return opened


def _close(taps: Iterable[Tap]) -> None:
    for tap in taps:
        tap.close()


@cache
def taps(_pid: int) -> dict[LogStream, Tap]:
    """Those of this process.

    Raises:
        OSError: it has no descriptors left for them.
    """
    made: dict[LogStream, Tap] = {}
    try:
        for name, number in _DESCRIPTORS.items():
            made[name] = Tap(number, getattr(sys, name))
    except OSError:
        for tap in made.values():
            tap.discard()
        raise
    return made


def _catch_up(taps: Iterable[Tap]) -> None:
    for tap in taps:
        tap.catch_up()


def _flush() -> None:
    flush_c_output()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


@contextmanager
def _replaced(past: dict[int, Any]) -> Iterator[None]:
    """Put tees in place of the streams; one that somebody has replaced meanwhile stays as it is."""
    streams = {name: stream for name in LogStream if (stream := getattr(sys, name, None)) is not None}
    tees = {name: Tee(stream, name, past.get(_descriptor(stream))) for name, stream in streams.items()}
    for name, tee in tees.items():
        setattr(sys, name, tee)
    try:
        yield
    finally:
        for name, tee in tees.items():
            if getattr(sys, name) is tee:
                setattr(sys, name, streams[name])


@contextmanager
def _handlers_writing_to(past: dict[int, Any]) -> Iterator[None]:
    """Have the root handlers that write to these descriptors write past the taps: records are taken as records."""
    moved = [
        (handler, handler.stream, Aside(handler.stream, past[descriptor]))
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and (descriptor := _descriptor(handler.stream)) in past
    ]
    for handler, _, target in moved:
        handler.stream = target
    try:
        yield
    finally:
        for handler, stream, target in moved:
            if handler.stream is target:
                handler.stream = stream


def _descriptor(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError, TypeError):
        return -1


@contextmanager
def _logs_heard(level: int) -> Iterator[None]:
    """Hear records from that level on; what other handlers get stays the same."""
    root = logging.getLogger()
    before, others = root.level, tuple(root.handlers)
    handler = CaptureHandler(level, is_only=not others)
    root.addHandler(handler)
    is_as_before = partial(_is_heard_at, before)
    if level < before:
        for other in others:
            other.addFilter(is_as_before)
        root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        if level < before:
            root.setLevel(before)
            for other in others:
                other.removeFilter(is_as_before)


def _is_heard_at(root_level: int, record: logging.LogRecord) -> bool:
    """Whether a record comes to the root's handlers where the root has that level."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None and not logger.level:
        logger = logger.parent
    is_roots = logger is None or logger.parent is None
    return record.levelno >= root_level or not is_roots
