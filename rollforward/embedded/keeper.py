"""The process that ends an embedded deployment when its parent is gone, however that went.

It lives in a session of its own, starts Redis and the worker as its children, and reads a pipe whose other end only
the parent has: end of file means that the parent is gone. It tells the parent what happens on its standard output,
a JSON object a line.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from rollforward.embedded.child import Child
from rollforward.embedded.folder import Folder
from rollforward.embedded.redis_server import answers, make_socket_folder, redis_arguments, socket_in
from rollforward.liveness import facts_of

WORKER_GRACE = timedelta(seconds=3)
REDIS_GRACE = timedelta(seconds=5)
_TURN_SECONDS = 0.1
_BOOT_TURN_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to keep running: a private Redis where a binary is named, and a worker."""

    folder: str
    redis_binary: str | None
    worker: list[str]
    environment: dict[str, str]
    lock: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        return cls(**json.loads(text))


class Keeper:
    """Keeps what the plan says running, until it is told to stop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = Folder(Path(plan.folder))
        self._sockets: Path | None = None
        self._redis: Child | None = None
        self._worker: Child | None = None
        self._is_asked_to_stop = False
        self._has_failed = False

    def run(self) -> None:
        """Start everything and keep it running; returns when nothing of it is left."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._start_redis()
            while not self._is_over():
                self._turn()
        finally:
            self._end()

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_asked_to_stop = True

    def _is_over(self) -> bool:
        turn = _TURN_SECONDS if self._worker else _BOOT_TURN_SECONDS
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], turn)
        return self._is_asked_to_stop or bool(readable)

    def _turn(self) -> None:
        if self._has_failed:
            return
        restarted = [child for child in (self._redis, self._worker) if child and child.keep_running()]
        hopeless = [child for child in (self._redis, self._worker) if child and child.is_hopeless]
        if hopeless:
            self._has_failed = True
            _tell("failed", message=f"the {hopeless[0].name} keeps ending: {hopeless[0].last_words()}")
        elif self._worker is None and self._is_redis_ready():
            self._start_worker()
        elif restarted:
            self._note()

    def _is_redis_ready(self) -> bool:
        return self._sockets is None or answers(socket_in(self._sockets))

    def _start_redis(self) -> None:
        if self._plan.redis_binary is None:
            return
        left_behind = self._folder.processes.get("url")
        if left_behind:
            shutil.rmtree(Path(left_behind.removeprefix("unix://")).parent, ignore_errors=True)
        self._sockets = make_socket_folder()
        arguments = redis_arguments(
            Path(self._plan.redis_binary), data=self._folder.redis_data, socket_path=socket_in(self._sockets)
        )
        # The server holds the folder's lock as well: no second one may open its file while it lives.
        inherited = () if self._plan.lock is None else (self._plan.lock,)
        self._redis = Child("private Redis", arguments, log=self._folder.logs / "redis.log", inherited=inherited)
        self._redis.start()
        self._note()

    def _start_worker(self) -> None:
        environment = {**os.environ, **self._plan.environment}
        if self._url:
            environment["ROLLFORWARD_REDIS_URL"] = self._url
            _tell("redis", url=self._url)
        log = self._folder.logs / "worker.log"
        self._worker = Child("worker", self._plan.worker, log=log, environment=environment)
        self._worker.start()
        self._note()

    @property
    def _url(self) -> str | None:
        return f"unix://{socket_in(self._sockets)}" if self._sockets else None

    def _note(self) -> None:
        if self._redis is None:
            return
        facts: dict[str, Any] = {
            "keeper": facts_of(os.getpid()),
            "redis": self._redis.facts,
            "worker": self._worker.facts if self._worker else None,
            "url": self._url,
        }
        self._folder.note_processes(facts)

    def _end(self) -> None:
        if self._worker:
            self._worker.end(WORKER_GRACE)
        if self._redis:
            self._redis.end(REDIS_GRACE)
            self._folder.note_processes({})
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)


def _tell(event: str, **facts: str) -> None:
    # Where the parent is gone, the other pipe says so as well.
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), (json.dumps({"event": event, **facts}) + "\n").encode())


def main() -> None:
    """Read the plan from standard input and keep it."""
    line = sys.stdin.readline()
    if line.endswith("\n"):
        Keeper(Plan.from_json(line)).run()


if __name__ == "__main__":
    main()
