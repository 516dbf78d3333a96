"""The private Redis of an embedded run: a Unix socket only, everything in an append-only file."""

import socket
import tempfile
from pathlib import Path

_SOCKET_NAME = "redis.sock"
_LONGEST_SOCKET_PATH = 100  # the kernel takes 103 bytes on macOS, 107 on Linux


def redis_arguments(binary: Path, *, data: Path, socket_path: Path) -> list[str]:
    """The command line of the server; it stays in the foreground."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",  # its standard output
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def make_socket_folder() -> Path:
    """A new folder that only this user can enter, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="rollforward-"))
    if len(str(folder / _SOCKET_NAME).encode()) > _LONGEST_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="rollforward-", dir="/tmp"))
    return folder


def socket_in(folder: Path) -> Path:
    """Where the server listens, of the folder that `make_socket_folder` made."""
    return folder / _SOCKET_NAME


def answers(socket_path: Path) -> bool:
    """Whether a server that has loaded its data answers there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
