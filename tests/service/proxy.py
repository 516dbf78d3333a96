"""A network that a test can take away from one process: connections to a port of this host go through it."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Proxy:
    """Carries connections to a port of this host or to a socket, until what it carries is lost."""

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self._passes = True
        self._fatal: bytes | None = None
        self._spared = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._carry, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @contextmanager
    def lost(self) -> Iterator[None]:
        """Nothing comes through until the end of this, and nobody is told: connections stay open, also new ones."""
        self._passes = False
        try:
            yield
        finally:
            self._passes = True
            self._do(self._abort())

    def cut(self, request: bytes, *, after: int) -> None:
        """Carry so many requests that hold these bytes, then end a connection when the reply to the next one comes."""
        self._spared, self._fatal = after, request

    @property
    def has_cut(self) -> bool:
        """Whether that has happened."""
        return self._spared < 0

    def close(self) -> None:
        self._server.close()
        self._do(self._abort())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=30)

    async def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(100):
            if not self._writers:
                return
            await asyncio.sleep(0.01)

    async def _carry(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        there, on = await self._connected()
        self._writers |= {on, back}
        doomed = asyncio.Event()
        await asyncio.gather(self._ask(here, on, doomed), self._answer(there, back, doomed))
        self._writers -= {on, back}

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        """Pass on what comes, until one of them is closed; what comes while nothing passes is lost."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._is_fatal(data):
                    doomed.set()
                if self._passes:
                    writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        """As `_ask`, the other way; an answer that must not come ends it."""
        with contextlib.suppress(ConnectionError):
            while (data := await reader.read(65536)) and not doomed.is_set():
                if self._passes:
                    writer.write(data)
        writer.close()

    def _is_fatal(self, data: bytes) -> bool:
        if self._fatal is None or self._fatal not in data or self.has_cut:
            return False
        self._spared -= 1
        return self.has_cut
