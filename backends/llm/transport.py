"""The wire to a model's API: httpx, safe to use across forks and event loops."""

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from backends.llm.error import ProviderInvalidRequest, ProviderInvalidResponse, ProviderUnavailable
from backends.llm.plain import plain_loop
from backends.llm.reply import Reply
from backends.llm.setting import MAX_RESPONSE_BYTES, ChatSettings, Server
from orchestrator.redaction import redacted

_UNSENDABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError)


class HttpTransport:
    """Posts to one URL, from any thread, event loop and process; clients are made where they are needed.

    At most `max_connections` calls of a loop are on their way at once; the time of a call begins when it is one of
    them.
    """

    def __init__(self, server: Server, settings: ChatSettings) -> None:
        self._server = server
        self._settings = settings
        self._of_processes: dict[int, _Connections] = {}

    async def post(self, content: bytes, headers: Mapping[str, str]) -> Reply:
        """Post, and wait for the whole answer.

        Raises:
            ProviderUnavailable: there was none in time.
            ProviderInvalidRequest, ProviderInvalidResponse: it cannot be sent; what came cannot be read.
        """
        client, place = self._here().of_this_loop()
        body = bytearray()
        with self._as_ours():
            async with (
                place,
                asyncio.timeout(self._settings.timeout.total_seconds()),
                client.stream("POST", self._server.url, content=content, headers=dict(headers)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    self._add(body, chunk)
        return _reply(response, body)

    def post_sync(self, content: bytes, headers: Mapping[str, str]) -> Reply:
        """As `post`, for plain functions."""
        # A client without a loop bounds the time between two bytes, and no whole answer.
        return plain_loop().run(self.post(content, headers))

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of plain functions; a later call makes new ones."""
        await self._here().close_this_loops()
        self.close()

    def close(self) -> None:
        """Close the connections of plain functions; a later call makes new ones."""
        if plain_loop().has_begun:
            plain_loop().run(self._here().close_this_loops())

    def _here(self) -> "_Connections":
        # A child keeps what it inherited, untouched: the connections are its parent's.
        return self._of_processes.setdefault(os.getpid(), _Connections(self._settings))

    def _add(self, body: bytearray, chunk: bytes) -> None:
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise ProviderInvalidResponse(str(self._server), f"more than {MAX_RESPONSE_BYTES} bytes")

    @contextmanager
    def _as_ours(self) -> Iterator[None]:
        server = str(self._server)
        try:
            yield
        except _UNSENDABLE as error:
            # What it says may be a header.
            raise ProviderInvalidRequest(server, type(error).__name__) from None
        except httpx.DecodingError:
            raise ProviderInvalidResponse(server, "it cannot be decoded") from None
        except httpx.ConnectError as error:
            raise ProviderUnavailable(server, f"ConnectError: {redacted(str(error))}") from None
        except TimeoutError:
            limit = self._settings.timeout.total_seconds()
            raise ProviderUnavailable(server, f"no answer within {limit:g} s") from None
        except httpx.TransportError as error:
            # What it says may be what the server sent.
            raise ProviderUnavailable(server, type(error).__name__) from None


class _Connections:
    """The clients of one process, one for each event loop. Made when they are needed."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, asyncio.Semaphore]] = {}

    def of_this_loop(self) -> tuple[httpx.AsyncClient, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._of_loops:
                # What a loop that is closed has left open can only be forgotten.
                self._of_loops = {one: client for one, client in self._of_loops.items() if not one.is_closed()}
                self._of_loops[loop] = (self._client(), asyncio.Semaphore(self._settings.max_connections))
            return self._of_loops[loop]

    async def close_this_loops(self) -> None:
        with self._lock:
            client, _ = self._of_loops.pop(asyncio.get_running_loop(), (None, None))
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        settings = self._settings
        silence = min(settings.read_timeout, settings.timeout).total_seconds()
        return httpx.AsyncClient(
            timeout=httpx.Timeout(silence, connect=settings.connect_timeout.total_seconds(), pool=None),
            limits=httpx.Limits(max_connections=settings.max_connections),
            headers=settings.headers,
            transport=settings.transport,
            follow_redirects=False,
        )


def _reply(response: httpx.Response, body: bytearray) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, bytes(body))
