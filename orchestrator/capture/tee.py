"""A stream of this process that also tells what is written to it."""

import os
from typing import Any

from orchestrator.capture.capture import current_capture, current_writer
from orchestrator.capture.line import LogStream


class Aside:
    """Stands in for `stream` and writes to `target`, but in a process that was forked meanwhile, to the stream itself.

    Such a process is heard where the stream leads. Whatever else is asked of it, `stream` answers.
    """

    def __init__(self, stream: Any, target: Any) -> None:
        self._stream = stream
        self._target = target
        self._pid = os.getpid()

    def write(self, piece: Any) -> Any:
        return (self._target if os.getpid() == self._pid else self._stream).write(piece)

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def flush(self) -> None:
        self._target.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Tee(Aside):
    """Gives what an instance writes to its capture too."""

    def __init__(self, stream: Any, name: LogStream, target: Any = None) -> None:
        super().__init__(stream, stream if target is None else target)
        self._name = name

    @property
    def buffer(self) -> Any:
        """The same for bytes."""
        return Tee(self._stream.buffer, self._name, self._target.buffer)

    def write(self, piece: Any) -> Any:
        capture = current_capture()
        if capture is None:
            return super().write(piece)
        capture.catch_up()
        written = super().write(piece)
        capture.write(self._name, piece if isinstance(piece, str) else bytes(piece), current_writer())
        return written
