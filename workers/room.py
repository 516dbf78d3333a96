"""Who runs instances in this process: many together, or one that has it to itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_AGAIN_SECONDS = 0.5


class Room:
    """A place for the deliveries of one process; safe in many threads.

    Whoever wants it alone lets those finish that are inside, and keeps others out until it is done.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._hermits = 0
        self._is_taken = False
        self._is_closed = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Be inside with others, once nobody wants the room alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._hermits or self._is_closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, *, unless: Callable[[], bool]) -> Iterator[None]:
        """Have the room alone, from inside it; do not wait for that any more once `unless` says so."""
        with self._changed:
            self._inside -= 1
            self._hermits += 1
            self._changed.notify_all()
            while not (self._is_free() or self._is_closed or unless()):
                self._changed.wait(LOOK_AGAIN_SECONDS)
            has_it = self._is_free()
            self._is_taken = self._is_taken or has_it
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = self._is_taken and not has_it
                self._hermits -= 1
                self._inside += 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more: the process ends."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _is_free(self) -> bool:
        return not (self._inside or self._is_taken)
