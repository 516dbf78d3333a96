"""One database: its connections, and whole transactions on them."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from backends.checkpointers.sql.fault import FAULTS, is_transient, translated
from orchestrator.errors import CallerError

T = TypeVar("T")

_ATTEMPTS = 4
_BUSY_SECONDS = 5.0
_CONNECT_SECONDS = 5
_RECYCLE_SECONDS = 1800
_POSTGRESQL_OPTIONS = "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=15000"
# A network that has gone without a word is noticed within 20 seconds, where the system would take many minutes.
_POSTGRESQL_NETWORK = {
    "connect_timeout": _CONNECT_SECONDS,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


class Database:
    """The connections to one database: one that writes and one that reads, made when they are first used.

    Each of the two may be used by one thread at a time. A transaction that fails for a reason that passes is tried
    again as a whole, a few times. Unless it `is_durable`, the host's failure may undo the last transactions, which then
    hold up those of others for a shorter time.
    """

    def __init__(self, url: str, *, is_durable: bool = True) -> None:
        self.url = _parsed(url)
        self._writer, self._reader = _engines(self.url, is_durable=is_durable)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def is_absent(self) -> bool:
        """Whether there is nothing to connect to; of a server this is never said without asking it."""
        return self.is_sqlite and not Path(self.url.database or "").exists()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do the work in one transaction, committed once this returns.

        Raises:
            CheckpointUnavailable: the database cannot be reached, or refuses it.
        """
        return self._whole(self._writer, work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do the work on one state of the database, whatever is written meanwhile.

        Raises:
            CheckpointUnavailable: the database cannot be reached.
        """
        return self._whole(self._reader, work)

    def close(self) -> None:
        """Let the connections go."""
        self._writer.dispose()
        self._reader.dispose()

    def _whole(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.05, max=0.5),
            reraise=True,
        )
        try:
            result: T = retrying(_once, engine, work)
        except FAULTS as error:
            raise translated(error, self.url) from error
        return result


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise CallerError("the checkpoint URL cannot be read; write it as scheme://user:password@host/name") from error
    if url.drivername not in _DRIVERS:
        raise CallerError(f"no SQL store for {url.drivername}://; use sqlite:///FILE or postgresql+psycopg://HOST/NAME")
    url = url.set(drivername=_DRIVERS[url.drivername])
    if url.get_backend_name() != "sqlite":
        return url
    if not url.database or url.database == ":memory:":
        raise CallerError("a SQLite store needs a file, as sqlite:///FILE; memory:// keeps nothing at all")
    # The working directory may change while the store is open.
    return url.set(database=str(Path(url.database).absolute()))


def _engines(url: URL, *, is_durable: bool) -> tuple[Engine, Engine]:
    if url.get_backend_name() == "sqlite":
        level = "FULL" if is_durable else "NORMAL"
        return _sqlite_engine(url, level, begin="BEGIN IMMEDIATE"), _sqlite_engine(url, level, begin="BEGIN")
    options = f"{_POSTGRESQL_OPTIONS} -c synchronous_commit={'on' if is_durable else 'off'}"
    return _postgresql_engine(url, "READ COMMITTED", options), _postgresql_engine(url, "REPEATABLE READ", options)


def _sqlite_engine(url: URL, synchronous: str, *, begin: str) -> Engine:
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "do_connect")
    def before_connecting(*_: Any) -> None:
        _prepare_file(Path(url.database or ""))

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # The driver's own transactions would begin too late, and would leave out statements that define tables.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _prepare_file(path: Path) -> None:
    """Make an absent file readable by its owner alone, in a folder that is as well where it is made here."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Closing any descriptor of a file drops the locks that this process has on it: an existing one must not be opened.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _postgresql_engine(url: URL, isolation_level: Any, options: str) -> Engine:
    return create_engine(
        url,
        isolation_level=isolation_level,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=_RECYCLE_SECONDS,
        connect_args={"options": options, **_POSTGRESQL_NETWORK},
    )
