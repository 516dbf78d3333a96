"""A real Celery worker that tests start, stop and kill."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from orchestrator.ledger.protocol import WorkerRegistry
from tests.service.forking import Forked, can_be_forked
from workers.launch import Pool, worker_arguments
from workers.opening import open_worker_ledger
from workers.settings import Settings

REPOSITORY = Path(__file__).parents[2]
LEASE_SECONDS = 2.0
HEARTBEAT_SECONDS = 0.5

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0

T = TypeVar("T")


class WorkerProcess:
    """`celery -A workers.app worker` with the graphs of `graphs`, logging to a file in `folder`.

    Its name is `<name>@test`. Leases are short, so that tests of lost workers are quick. `environment` adds to what
    this process has, or replaces it; settings of this process do not reach it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        redis_url: str,
        graphs: Sequence[str],
        pool: Pool = "prefork",
        concurrency: int = 2,
        name: str = "worker",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"{name}@test"
        self.log = folder / f"{name}.log"
        self._settings = Settings(
            redis_url=redis_url,
            broker_url=redis_url,
            graphs=tuple(graphs),
            lease_seconds=LEASE_SECONDS,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            monitoring=(environment or {}).get("ROLLFORWARD_MONITORING") == "1",
        )
        self._environment = _environment(self._settings, environment or {})
        self._arguments = worker_arguments(
            self._settings, concurrency=concurrency, pool=pool, name=self.name, loglevel="info"
        )
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> "WorkerProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._running().poll() is not None

    @property
    def children(self) -> list[int]:
        """The pids of its pool."""
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def start(self, *, wait: bool = True) -> "WorkerProcess":
        """Start, and with `wait` return once it has announced itself."""
        arguments, environment = ["-A", "workers.app", *self._arguments], self._environment
        with self.log.open("ab") as log:
            if can_be_forked(environment):
                self._process = Forked("celery", arguments, folder=REPOSITORY, environment=environment, log=log)
            else:
                command = [sys.executable, "-m", "celery", *arguments]
                self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY, env=environment)
        if wait:
            self._wait_until_announced()
        return self

    def stop(self) -> int:
        """SIGTERM: stop warmly, and give the exit code; nothing happens where it does not run."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL the worker; its children go with it, within seconds."""
        return self._end(signal.SIGKILL)

    def discard(self) -> None:
        """SIGKILL the worker and its children, when a test is over; nothing happens where it does not run."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        _kill_all(children)
        process.wait(timeout=_STOP_SECONDS)
        _end_all(children)

    def signal(self, number: int) -> None:
        """Send it a signal; SIGSTOP and SIGCONT freeze and wake the worker's parent only."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until it has ended by itself, and give the exit code."""
        return self._running().wait(timeout=_STOP_SECONDS)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(number)
        try:
            return process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=_STOP_SECONDS)
            raise RuntimeError(f"the worker did not stop:\n{self._tail()}") from None
        finally:
            _end_all(children)

    def _wait_until_announced(self) -> None:
        registry = open_worker_ledger(self._settings)
        try:
            wait_until(lambda: self._is_announced(registry), what=f"{self.name} announces itself", because=self._tail)
        except BaseException:
            self.discard()
            raise
        finally:
            registry.close()

    def _is_announced(self, registry: WorkerRegistry) -> bool:
        process = self._running()
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with {process.returncode}:\n{self._tail()}")
        return any(worker["worker"] == self.name and worker["pid"] == process.pid for worker in registry.workers())

    def _running(self) -> subprocess.Popen[bytes] | Forked:
        if self._process is None:
            raise RuntimeError("this worker does not run; call start()")
        return self._process

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def wait_until(
    condition: Callable[[], T], *, what: str, seconds: float = _START_SECONDS, because: Callable[[], str] = str
) -> T:
    """Wait until `condition` gives something true, and give that; what is waited for is named when it does not come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{because()}")
        time.sleep(0.02)
    return found


def _environment(settings: Settings, added: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "CELERY_"))}
    chosen = {
        "ROLLFORWARD_REDIS_URL": str(settings.redis_url),
        "ROLLFORWARD_GRAPHS": ",".join(settings.graphs),
        "ROLLFORWARD_LEASE_SECONDS": str(settings.lease_seconds),
        "ROLLFORWARD_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "PYTHONWARNINGS": "default",
    }
    return {**inherited, **chosen, **added}


def _end_all(processes: Sequence[psutil.Process]) -> None:
    """Wait until orphans have ended, and kill those that do not; whoever inherits them may be slow to reap them."""
    try:
        wait_until(lambda: all(map(_has_ended, processes)), what="the children of a worker end", seconds=5)
    except AssertionError:
        _kill_all(processes)


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
