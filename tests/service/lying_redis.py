"""A Redis that does not say what is so: what it answers is changed on the way."""

import socket
import threading
from collections.abc import Callable

from tests.service.redis import RedisServer

Change = Callable[[bytes], bytes]


class LyingRedis:
    """Stands before a server on a loopback port of its own; `change` gives as many bytes as it is given."""

    def __init__(self, server: RedisServer, change: Change) -> None:
        self._server = server
        self._change = change
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]

    def __enter__(self) -> "LyingRedis":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server.port))
            self._sockets += [client, server]
            threading.Thread(target=_pump, args=(client, server, bytes), daemon=True).start()
            threading.Thread(target=_pump, args=(server, client, self._change), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, change: Change) -> None:
    try:
        while piece := source.recv(1 << 16):
            sink.sendall(change(piece))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
