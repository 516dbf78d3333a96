"""The checkpoint stores of the sweep, and what a test does to each: take it away, let it write no more, restore it."""

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

import psutil
import psycopg

from tests.service.postgres import PostgresServer
from tests.service.redis import RedisServer


class Store(Protocol):
    """A store that holds nothing yet."""

    url: str

    def away(self) -> AbstractContextManager[None]:
        """Nobody can write until the end of this."""

    def read_only(self, pid: int) -> AbstractContextManager[None]:
        """What the process `pid` writes is refused until the end of this."""

    def back_up(self) -> None:
        """Keep what is there; nobody may be connected for writing."""

    def restore(self) -> None:
        """Make it what was kept."""


class SqliteStore:
    """A file: somebody else has the lock where it is away; it has reached a quota where it is read-only."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "state.db"
        self._kept = folder / "backup.db"
        self.url = f"sqlite:///{self._file}"

    @contextmanager
    def away(self) -> Iterator[None]:
        with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield

    @contextmanager
    def read_only(self, pid: int) -> Iterator[None]:
        process = psutil.Process(pid)
        before = process.rlimit(resource.RLIMIT_FSIZE)
        assert before is not None
        process.rlimit(resource.RLIMIT_FSIZE, (1, before[1]))
        try:
            yield
        finally:
            process.rlimit(resource.RLIMIT_FSIZE, before)

    def back_up(self) -> None:
        with closing(sqlite3.connect(self._file)) as database, closing(sqlite3.connect(self._kept)) as backup:
            database.backup(backup)

    def restore(self) -> None:
        for end in ("-wal", "-shm"):
            self._file.with_name(f"{self._file.name}{end}").unlink(missing_ok=True)
        self._file.write_bytes(self._kept.read_bytes())


class PostgresStore:
    """A database of a server that is stopped at once where it is away."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.create_database()
        self._name = self.url.partition("@/")[2].partition("?")[0]

    @contextmanager
    def away(self) -> Iterator[None]:
        self._server.kill()
        try:
            yield
        finally:
            self._server.start()

    @contextmanager
    def read_only(self, pid: int) -> Iterator[None]:
        self._do("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self._do("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")

    def back_up(self) -> None:
        self._copy(self._name, f"{self._name}_kept")

    def restore(self) -> None:
        self._copy(f"{self._name}_kept", self._name)

    def _copy(self, source: str, target: str) -> None:
        self._do(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)", f"CREATE DATABASE {target} TEMPLATE {source}")

    def _do(self, *statements: str) -> None:
        with psycopg.connect(self._server.url.replace("+psycopg", ""), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


class RedisStore:
    """The Redis that is the ledger as well; what is done to it is done to the ledger, and is a row of its own."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._kept = 0
        self.url = server.url

    def away(self) -> AbstractContextManager[None]:
        raise NotImplementedError("it is R1")

    def read_only(self, pid: int) -> AbstractContextManager[None]:
        raise NotImplementedError("it is R4 and R5")

    def back_up(self) -> None:
        self._kept = size_of_aof(self._server)

    def restore(self) -> None:
        roll_back(self._server, self._kept)


def size_of_aof(server: RedisServer) -> int:
    """How much of its append-only file is written."""
    return (server.folder / "appendonly.aof").stat().st_size


def roll_back(server: RedisServer, size: int) -> None:
    """SIGKILL a Redis, and start it on what its append-only file was when it had this size."""
    server.kill()
    os.truncate(server.folder / "appendonly.aof", size)
    server.start()


def store_of(kind: str, folder: Path, redis: RedisServer, postgres: PostgresServer | None) -> Store:
    """An empty store: `sqlite`, `postgresql` (which has a server) or `redis`."""
    if kind == "sqlite":
        return SqliteStore(folder)
    if kind == "redis":
        return RedisStore(redis)
    assert postgres is not None
    return PostgresStore(postgres)
