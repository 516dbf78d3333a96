"""A run that goes on in a thread of its own, for callers without an event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Generic

from typing_extensions import TypeVar

from orchestrator.execution.handle import RunHandle
from orchestrator.execution.status import Progress
from orchestrator.observers.delivery import drain
from orchestrator.observers.draining import deliveries_here
from orchestrator.state import State

StateT = TypeVar("StateT", bound=State, default=State)


class BackgroundHandle(Generic[StateT]):
    """The synchronous twin of `RunHandle`. Its thread and loop end with the run, once observers are told everything."""

    def __init__(self, start: Callable[[], Awaitable[RunHandle[StateT]]]) -> None:
        self._started: Future[tuple[asyncio.AbstractEventLoop, RunHandle[StateT]]] = Future()
        self._ended: Future[StateT] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._live(start)), name="rollforward-run", daemon=True)
        thread.start()
        self._loop, self._handle = self._started.result()
        self.run_id, self.invocation_id = self._handle.run_id, self._handle.invocation_id

    def result(self, timeout: float | None = None) -> StateT:
        """Wait for the end, `timeout` seconds at most, and give the last state; see `RunHandle.result`.

        Observers are told everything before it returns or raises what the run failed by.
        """
        return self._ended.result(timeout)

    def status(self) -> Progress:
        """How far the run is."""
        return self._handle.status()

    def cancel(self) -> None:
        """Cancel the run and wait until it has stopped."""
        if not self._ended.done():
            asyncio.run_coroutine_threadsafe(self._handle.cancel(), self._loop).result()

    async def _live(self, start: Callable[[], Awaitable[RunHandle[StateT]]]) -> None:
        try:
            handle = await start()
        except Exception as error:  # noqa: BLE001 - it is raised where the caller waits
            self._started.set_exception(error)
            return
        self._started.set_result((asyncio.get_running_loop(), handle))
        try:
            state = await _told(handle)
        except BaseException as error:  # noqa: BLE001 - as above
            self._ended.set_exception(error)
        else:
            self._ended.set_result(state)


async def _told(handle: RunHandle[StateT]) -> StateT:
    """The result, once observers are told everything: what they have not heard by the end of the loop is lost."""
    try:
        return await handle.result()
    finally:
        await drain(deliveries_here(), timeout_seconds=None)
