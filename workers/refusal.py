"""Counts the messages that this worker refused, where its presence can tell of them: in its parent process."""

import threading
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.worker.request import Request

from orchestrator.crashpoint import crashpoint
from workers.message import MessageRefused


class Refusals:
    """How many messages were refused since this process started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self) -> None:
        with self._lock:
            self.count += 1


refusals = Refusals()
"""Those of this worker, whichever of its processes or threads refused."""


class CountingRequest(Request):  # type: ignore[misc] # Celery has no types
    """A message in the worker's parent process, which learns there how it ended."""

    def acknowledge(self) -> None:
        super().acknowledge()
        crashpoint("after_ack")

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, MessageRefused):
            refusals.add()
        return super().on_failure(exc_info, *args, **kwargs)
