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
        await asyncio.gather(self._pump(here, on), self._pump(there, back))
        self._writers -= {on, back}

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, until one of them is closed; what comes while nothing passes is lost."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._passes:
                    writer.write(data)
        writer.close()
