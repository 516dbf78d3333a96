"""The threads in which plain functions run."""

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.graph.origin import qualified_name

MOST_AT_ONCE = 128
MOST_IDLE = 32


@dataclass(eq=False, slots=True)
class PlainCall:
    """One call of a plain function, and the future that somebody awaits."""

    name: str
    act: Callable[[], Any]
    future: asyncio.Future[Any]

    def run(self) -> None:
        """Call the function; whatever comes of it, SystemExit too, goes to whoever awaits it."""
        result: Any = None
        error: BaseException | None = None
        try:
            result = self.act()
        except StopIteration as stopped:
            # No future takes one: it would end a generator somewhere else.
            error = RuntimeError(f"{self.name} raised StopIteration")
            error.__cause__ = stopped
        except BaseException as raised:  # noqa: BLE001 - it is raised again where the call is awaited
            error = raised
        # The loop of one who does not wait any more may be closed.
        with contextlib.suppress(RuntimeError):
            self.future.get_loop().call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class PlainCalls:
    """Runs plain functions in daemon threads, so that one which never ends keeps no process alive.

    A thread serves one call after the other; a few stay for the next. A call whose await was cancelled goes on, counts
    as abandoned until it ends, and takes no place from the others.
    """

    def __init__(self, *, most: int = MOST_AT_ONCE, most_idle: int = MOST_IDLE) -> None:
        self._most = most
        self._most_idle = most_idle
        self._changed = threading.Condition()
        self._waiting: deque[PlainCall] = deque()
        self._running: set[PlainCall] = set()
        self._abandoned: set[PlainCall] = set()
        self._threads = 0
        self._idle = 0

    async def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Call `function` in a thread, with this context, and await what it gives or raises."""
        act = partial(contextvars.copy_context().run, function, argument)
        call = PlainCall(qualified_name(function), act, asyncio.get_running_loop().create_future())
        self._begin(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    def abandoned(self) -> list[str]:
        """The names of the functions that still run although nobody awaits them any more."""
        with self._changed:
            return sorted(call.name for call in self._abandoned)

    def _begin(self, call: PlainCall) -> None:
        with self._changed:
            self._waiting.append(call)
            self._find_thread()

    def _abandon(self, call: PlainCall) -> None:
        with self._changed:
            if call in self._running:
                self._abandoned.add(call)
                self._find_thread()
            elif call in self._waiting:
                self._waiting.remove(call)

    def _find_thread(self) -> None:
        """Wake an idle thread, or make one, where a call waits and there is a place."""
        if self._idle >= len(self._waiting):
            self._changed.notify()
        elif self._threads - len(self._abandoned) < self._most:
            self._threads += 1
            threading.Thread(target=self._serve, name="rollforward-plain", daemon=True).start()

    def _serve(self) -> None:
        while (call := self._next()) is not None:
            call.run()
            with self._changed:
                self._running.discard(call)
                self._abandoned.discard(call)
            # An idle thread must not keep what it worked on last.
            del call

    def _next(self) -> PlainCall | None:
        """The next call to make; None where this thread is one too many."""
        with self._changed:
            is_one_too_many = self._threads - len(self._abandoned) > self._most
            while not self._waiting and not is_one_too_many and self._idle < self._most_idle:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            if is_one_too_many or not self._waiting:
                self._threads -= 1
                return None
            call = self._waiting.popleft()
            self._running.add(call)
            return call
