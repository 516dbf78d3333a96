"""What stands between a process and Redis, and may swallow replies or cut it off."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Carries connections to a port of this host; its own port is known before it is opened."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._carried: set[asyncio.StreamWriter] = set()
        self._is_silent = self._is_cut = False
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._carry, sock=self._socket)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        self._end()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Deliver what is asked and swallow the replies; who waits for one finds its connection ended at the end."""
        self._is_silent = True
        try:
            yield
        finally:
            self._end()
            self._is_silent = False

    @contextmanager
    def cut(self) -> Iterator[None]:
        """End every connection, and every new one."""
        self._is_cut = True
        self._end()
        try:
            yield
        finally:
            self._is_cut = False

    def _end(self) -> None:
        for writer in self._carried:
            writer.transport.abort()

    async def _carry(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            there, on = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            # Redis is away.
            back.transport.abort()
            return
        self._carried |= {on, back}
        if self._is_cut:
            back.transport.abort()
        # When the loop ends, asyncio would show the end of this as an error.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._pump(here, on, is_reply=False), self._pump(there, back, is_reply=True))
        self._carried -= {on, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not (is_reply and self._is_silent):
                    writer.write(data)
        writer.close()
