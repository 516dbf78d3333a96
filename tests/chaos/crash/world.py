"""A deployment that is brought back whenever a part of it has died, until its run has ended."""

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from orchestrator.crashpoint import EXIT_CODE
from tests.service.deployment import Command, Deployment
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until

RUN = "crashed"
ASKED = ("--progress", "none", "-o", "json")
GRAPH = "tests.chaos.crash.squares"
END_SECONDS = 60.0


class World:
    """Redis, one worker, and the command that drives the run; `crash` is `name:nth`, or None where none crashes."""

    def __init__(self, folder: Path, *, url: str | None, crash: str | None) -> None:
        self.arrivals = folder / "arrivals"
        self.redis = RedisServer(folder / "redis", fsync="everysec" if url else "always").start()
        asked = {"ROLLFORWARD_CRASH": crash, "ROLLFORWARD_CRASH_FILE": str(self.arrivals)} if crash else {}
        self.deployment = Deployment(
            folder, self.redis, url or self.redis.url, graphs=[GRAPH], environment={"WITNESS_SECONDS": "0.2", **asked}
        )
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.deployment.close()
        self.redis.stop()

    def begin(self, numbers: list[int]) -> Command:
        """Start a worker, and a run over numbers."""
        self._worker = self.deployment.worker()
        return self.deployment.begin("run", f"{GRAPH}:graph", "--set", f"numbers={numbers}", "--run-id", RUN, *ASKED)

    def end(self, command: Command) -> dict[str, Any]:
        """Bring back what dies until the run has ended; what its last command printed."""
        wait_until(lambda: self._is_over(command), what="the run ends", seconds=END_SECONDS, because=self._log)
        if command.returncode != EXIT_CODE:
            return self.deployment.ended(command)
        return self.deployment.command("resume", RUN, *ASKED)

    def wait_until_crashed(self, nth: int) -> None:
        """Wait until the processes have come so often to the point where one of them is to crash."""
        wait_until(lambda: self._arrivals() >= nth, what=f"the point is reached {nth} times", because=self._log)

    def wait_until_begun(self, nth: int) -> int:
        """Wait until the nth execution has begun; the pid of its process."""
        wait_until(lambda: len(self.deployment.witnessed()) >= nth, what=f"execution {nth} begins", because=self._log)
        return self.deployment.witnessed()[nth - 1][1]

    def kill_child_of(self, nth: int) -> None:
        """SIGKILL the process of the nth execution while it runs."""
        os.kill(self.wait_until_begun(nth), signal.SIGKILL)

    def freeze_worker_at(self, nth: int) -> None:
        """SIGSTOP the worker that runs the nth execution, and wake it once another worker has begun it again."""
        self.wait_until_begun(nth)
        assert self._worker is not None
        frozen = [psutil.Process(pid) for pid in (self._worker.pid, *self._worker.children)]
        for process in frozen:
            process.suspend()
        self.deployment.worker("heir")
        self.wait_until_begun(nth + 1)
        for process in frozen:
            process.resume()

    def _arrivals(self) -> int:
        return self.arrivals.stat().st_size if self.arrivals.exists() else 0

    def _is_over(self, command: Command) -> bool:
        worker = self._worker
        if worker is not None and psutil.Process(worker.pid).status() == psutil.STATUS_ZOMBIE:
            self._worker = self.deployment.worker("heir")
        return command.poll() is not None

    def _log(self) -> str:
        return "" if self._worker is None else self._worker.log.read_text(errors="replace")[-3000:]
