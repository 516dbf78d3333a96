"""What stands between a process and a server: it carries what they say, and can lose, cut, change or encrypt it."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Flag, auto
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Change = Callable[[bytes], bytes]


class Fault(Flag):
    """What is wrong with a network."""

    NONE = 0
    LOSES_REQUESTS = auto()
    LOSES_REPLIES = auto()
    CUTS = auto()


class Proxy:
    """Carries connections to a port of this host or to a socket, from a loopback port of its own, until it is closed.

    While the server is away, who connects is cut off at once. With `tls` that is spoken to those who connect. `change`
    makes of each piece of a reply what is heard of it.
    """

    def __init__(self, target: int | Path, *, tls: ssl.SSLContext | None = None, change: Change = bytes) -> None:
        self._target = target
        self._change = change
        self._fault = Fault.NONE
        self._fatal: bytes | None = None
        self._spared = 0
        self._carried: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        # What a handshake comes to is the affair of those who shake hands.
        self._loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._carry, "127.0.0.1", 0, ssl=tls))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def redis_url(self) -> str:
        """Where a Redis is found that is behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lost(self) -> AbstractContextManager[None]:
        """Nothing comes through until the end of this, and nobody is told: connections stay open, also new ones."""
        return self._with(Fault.LOSES_REQUESTS | Fault.LOSES_REPLIES)

    def silent(self) -> AbstractContextManager[None]:
        """Requests come through until the end of this, and replies do not; who waits for one is cut off then."""
        return self._with(Fault.LOSES_REPLIES)

    def cut(self) -> AbstractContextManager[None]:
        """Every connection is cut off, and until the end of this every new one."""
        return self._with(Fault.CUTS)

    def cut_at(self, request: bytes, *, after: int) -> None:
        """Carry so many requests that hold these bytes, then cut a connection off when the reply to the next comes."""
        self._spared, self._fatal = after, request

    @property
    def has_cut(self) -> bool:
        """Whether that has happened."""
        return self._spared < 0

    def close(self) -> None:
        """Cut everybody off, for good."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def _with(self, fault: Fault) -> Iterator[None]:
        self._do(self._become(fault))
        try:
            yield
        finally:
            self._do(self._become(Fault.NONE))

    def _do(self, what: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=30)

    async def _become(self, fault: Fault) -> None:
        """Whoever missed something, or is to be cut off, is; that nothing comes in between is why this runs here."""
        was, self._fault = self._fault, fault
        if was or Fault.CUTS in fault:
            await self._cut_off()

    async def _cut_off(self) -> None:
        writers = [writer for pair in self._carried.values() for writer in pair]
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*self._carried, *(one.wait_closed() for one in writers), return_exceptions=True)

    async def _end(self) -> None:
        self._server.close()
        await self._cut_off()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            there, on = await self._connected()
        except OSError:
            back.transport.abort()
            return
        self._carried[task] = [on, back]
        if Fault.CUTS in self._fault:
            back.transport.abort()
        doomed = asyncio.Event()
        await asyncio.gather(
            _pump(here, on, lambda data: self._request(data, doomed)),
            _pump(there, back, lambda data: self._reply(data, doomed)),
        )
        del self._carried[task]

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    def _request(self, data: bytes, doomed: asyncio.Event) -> bytes:
        if self._is_fatal(data):
            doomed.set()
        return b"" if Fault.LOSES_REQUESTS in self._fault else data

    def _reply(self, data: bytes, doomed: asyncio.Event) -> bytes:
        if doomed.is_set():
            raise ConnectionAbortedError
        return b"" if Fault.LOSES_REPLIES in self._fault else self._change(data)

    def _is_fatal(self, data: bytes) -> bool:
        if self._fatal is None or self._fatal not in data or self.has_cut:
            return False
        self._spared -= 1
        return self.has_cut


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, become: Change) -> None:
    """Pass on what becomes of each piece, until a connection ends; the other one ends with it."""
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(become(data))
            await writer.drain()
