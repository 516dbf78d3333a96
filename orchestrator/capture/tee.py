"""A stream of this process that also tells what is written to it."""

import os
from typing import Any

from orchestrator.capture.capture import current_capture
from orchestrator.capture.line import LogStream


class Tee:
    """Passes everything on to `target`, and what an instance writes to its capture too.

    Whatever else is asked of it, `stream` answers: the one that it stands in for.
    """

    def __init__(self, stream: Any, name: LogStream, target: Any = None) -> None:
        self._stream = stream
        self._name = name
        self._target = stream if target is None else target
        self._pid = os.getpid()

    @property
    def buffer(self) -> Any:
        """The same for bytes."""
        return Tee(self._stream.buffer, self._name, self._target.buffer)

    def write(self, piece: Any) -> Any:
        # A process that was forked meanwhile takes nothing: what it writes is taken where the stream leads.
        written = (self._target if os.getpid() == self._pid else self._stream).write(piece)
        capture = current_capture()
        if capture is not None:
            capture.catch_up()
            capture.write(self._name, piece if isinstance(piece, str) else bytes(piece))
        return written

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def flush(self) -> None:
        self._target.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
