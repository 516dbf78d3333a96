"""A deployment that is brought back whenever a part of it has died, until its run has ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import psutil

from orchestrator.crashpoint import EXIT_CODE
from tests.chaos.crash.hold import ask_to_hold, held, let_go
from tests.chaos.crash.store import Store, store_of
from tests.service.deployment import Command, Deployment
from tests.service.forking import Ended, forked
from tests.service.postgres import PostgresServer
from tests.service.proxy import Proxy
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY, WorkerProcess, wait_until

RUN = "crashed"
ASKED = ("--progress", "none", "-o", "json")
GRAPHS = "tests.chaos.crash.squares"
WAIT_SECONDS = 90.0
END_SECONDS = 180.0


class World:
    """Redis, a store, one worker behind a proxy, and the command that drives the run.

    `crash` is `name:nth`, or None where none crashes.
    """

    def __init__(self, folder: Path, *, kind: str, postgres: PostgresServer | None, crash: str | None) -> None:
        self.folder = folder
        self.arrivals = folder / "arrivals"
        self.log = folder / "command.log"
        self.redis = RedisServer(folder / "redis", fsync="always" if kind == "redis" else "everysec").start()
        self.proxy = Proxy(self.redis.port)
        self.store: Store = store_of(kind, folder, self.redis, postgres)
        asked = {"ROLLFORWARD_CRASH": crash, "ROLLFORWARD_CRASH_FILE": str(self.arrivals)} if crash else {}
        self.deployment = Deployment(folder, self.redis, self.store.url, graphs=[GRAPHS], environment=asked)
        self._workers: list[WorkerProcess] = []
        self._commands: list[Command] = []

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        let_go(self.folder)
        for command in self._commands:
            command.kill()
            command.communicate()
        for worker in self._workers:
            worker.discard()
        self.proxy.close()
        self.redis.stop()

    @property
    def worker(self) -> WorkerProcess:
        """The one that was started last."""
        return self._workers[-1]

    @property
    def command(self) -> Command:
        """The one that was begun last."""
        return self._commands[-1]

    def begin(self, numbers: list[int], *, graph: str, processes: int) -> None:
        """Start a worker, and a run over numbers."""
        self.start_worker(processes=processes, port=self.proxy.port)
        self.drive("run", f"{GRAPHS}:{graph}", "--set", f"numbers={numbers}", "--run-id", RUN, *ASKED)

    def start_worker(self, *, processes: int = 2, port: int | None = None) -> None:
        """Start a worker that reaches Redis at a port, by default at its own."""
        worker = WorkerProcess(
            self.folder,
            redis_url=self.redis.url,
            graphs=self.deployment.graphs,
            concurrency=processes,
            name=f"worker-{len(self._workers)}",
            environment={
                **self.deployment.environment,
                "ROLLFORWARD_REDIS_URL": f"redis://127.0.0.1:{port or self.redis.port}/0",
            },
        )
        self._workers.append(worker.start(wait=False))
        self.wait_until(lambda: f"{worker.name} ready" in worker.log.read_text(), what=f"{worker.name} is ready")

    def drive(self, *arguments: str) -> None:
        """Begin a command that drives runs."""
        # It has no file open but those of its store, on which a test may set a quota.
        reading, writing = os.pipe()
        Thread(target=self._note, args=(reading,), daemon=True).start()
        command = [sys.executable, "-m", "rollforward", *arguments, "-v"]
        self._commands.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=writing,
                text=True,
                cwd=REPOSITORY,
                env=self.deployment.environment,
            )
        )
        os.close(writing)

    def resume(self, *accepted: str) -> None:
        self.drive("resume", RUN, *accepted, *ASKED)

    def tried(self, *arguments: str) -> Ended:
        """Run a command to its end, which may be a refusal."""
        return forked(arguments, folder=REPOSITORY, environment=self.deployment.environment, seconds=90)

    def kill_command(self) -> None:
        self.command.kill()
        self.command.wait()

    def end(self) -> dict[str, Any]:
        """Bring back what dies until the run has ended; what its last command printed."""
        self.wait_until(self._is_over, what="the run ends", seconds=END_SECONDS)
        if self.command.returncode != EXIT_CODE:
            assert self.command.returncode == 0, f"exit {self.command.returncode}\n{self.said()}"
            return self.deployment.ended(self.command)
        return self.deployment.command("resume", RUN, *ASKED)

    def hold(self, *numbers: int) -> None:
        """Have executions stay in their middle: those of the first instance, the second, and so on."""
        for number in numbers:
            ask_to_hold(self.folder, number - 1)

    def wait_until_held(self, nth: int) -> int:
        """Wait until the execution of the nth instance stays; its pid."""
        self.wait_until(lambda: nth - 1 in held(self.folder), what=f"execution {nth} stays")
        return held(self.folder)[nth - 1]

    def let_go(self) -> None:
        let_go(self.folder)

    def wait_until_begun(self, count: int) -> None:
        """Wait until so many executions have begun."""
        self.wait_until(lambda: len(self.deployment.witnessed()) >= count, what=f"{count} executions begin")

    def wait_until_crashed(self, nth: int) -> None:
        """Wait until the processes have come so often to the point where one of them is to crash."""
        self.wait_until(lambda: self._arrivals() >= nth, what=f"the point is reached {nth} times")

    def wait_until_reported(self, count: int) -> None:
        """Wait until so many reports are in the ledger."""
        with self.redis.client() as client:

            def reported() -> int:
                return sum(client.hlen(key) for key in client.keys("*:reports"))

            self.wait_until(lambda: reported() >= count, what=f"{count} are reported")

    def freeze_worker(self) -> list[psutil.Process]:
        """SIGSTOP the worker and its children."""
        frozen = [psutil.Process(pid) for pid in (self.worker.pid, *self.worker.children)]
        for process in frozen:
            process.suspend()
        return frozen

    def signal_command(self, number: signal.Signals) -> None:
        os.kill(self.command.pid, number)

    def wait_until(self, condition: Any, *, what: str, seconds: float = WAIT_SECONDS) -> None:
        wait_until(condition, what=what, seconds=seconds, because=self.said)

    def said(self) -> str:
        """What the processes had to say, at the end."""
        logs = [self.log, *(worker.log for worker in self._workers)]
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())

    def _note(self, reading: int) -> None:
        with open(reading, encoding="utf-8") as lines, self.log.open("a") as log:
            for line in lines:
                log.write(line)
                log.flush()

    def _arrivals(self) -> int:
        return self.arrivals.stat().st_size if self.arrivals.exists() else 0

    def _is_over(self) -> bool:
        if self.worker.has_ended:
            self.start_worker()
        return self.command.poll() is not None
