"""TLS in front of a real Redis, and the certificates for it."""

import asyncio
import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that signs itself, so that it is its own authority as well."""

    file: Path
    key: Path


def certificate_for(folder: Path, name: str, *, alternative: str) -> Certificate:
    """Make one; `alternative` is whom it is for, as `IP:127.0.0.1`."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    usage = ("keyUsage=critical,digitalSignature,keyCertSign", f"subjectAltName={alternative}")
    extensions = [part for one in usage for part in ("-addext", one)]
    asked = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *extensions]
    files = ["-keyout", str(made.key), "-out", str(made.file), "-subj", f"/CN={name}"]
    subprocess.run(["openssl", "req", *asked, *files], check=True, capture_output=True, timeout=30)
    return made


@contextlib.contextmanager
def tls_in_front_of(socket: Path, certificate: Certificate) -> Iterator[int]:
    """Give the loopback port at which TLS is spoken; what is in it goes on to the Unix socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=loop.run_forever, name="tls", daemon=True)
    thread.start()
    proxy = _Proxy(socket, context)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result(timeout=10)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.end(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


class _Proxy:
    def __init__(self, socket: Path, context: ssl.SSLContext) -> None:
        self._socket = socket
        self._context = context
        self._writers: list[asyncio.StreamWriter] = []

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, *(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_unix_connection(str(self._socket))
        self._writers += [writer, to_redis]
        await asyncio.gather(_pass_on(reader, to_redis), _pass_on(from_redis, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
