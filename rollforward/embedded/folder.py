"""The `.rollforward/` folder: what an embedded run keeps, and the lock that gives it to one run at a time."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import CallerError
from rollforward.liveness import is_dead, is_running
from workers.process import this_owner

DEFAULT_PATH = Path(".rollforward")
LAST_RUN_ENDS_WITHIN = timedelta(seconds=20)


class FolderInUse(CallerError):
    """Another embedded run has the folder."""

    category = "folder_in_use"

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path} is in use by an embedded run ({who}); wait for it to end, start this one in another folder, or "
            "set ROLLFORWARD_REDIS_URL"
        )


class Folder:
    """One `.rollforward/` folder. Nothing in it is removed by anyone but its user."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @classmethod
    def create(cls, path: Path = DEFAULT_PATH) -> Self:
        """The folder, made where it is missing; only its user may look into it."""
        path.mkdir(mode=0o700, exist_ok=True)
        return cls(path)

    @property
    def redis_data(self) -> Path:
        """Where the private Redis keeps its append-only file."""
        return self._subfolder("redis")

    @property
    def logs(self) -> Path:
        return self._subfolder("logs")

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the folder; gives the descriptor of the lock, which a process that inherits it holds as well.

        What an ended run left behind is waited for: its keeper may still be ending workers and Redis, or was killed
        and they are about to be.

        Raises:
            FolderInUse: a live process holds it.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._acquire(descriptor)
            self._write("holder.json", {"owner": str(this_owner("embedded"))})
            try:
                yield descriptor
            finally:
                self._write("holder.json", {})
        finally:
            os.close(descriptor)

    def remember(self, run_id: str, facts: dict[str, Any]) -> None:
        """Keep how a run was started here, so that it can be resumed by its id alone."""
        self._subfolder("runs")
        self._write(f"runs/{run_id}.json", facts)

    def recall(self, run_id: str) -> dict[str, Any]:
        """How a run was started here; nothing where it was not."""
        return self._read(f"runs/{run_id}.json")

    def note_processes(self, facts: dict[str, Any]) -> None:
        """Keep the keeper, worker and redis of the embedded deployment, for those who look or clean up."""
        self._write("processes.json", facts)

    @property
    def processes(self) -> dict[str, Any]:
        return self._read("processes.json")

    @property
    def live_redis_url(self) -> str | None:
        """Where the private Redis listens now; None while there is none."""
        facts = self.processes
        return facts["url"] if is_running(facts.get("redis")) else None

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + LAST_RUN_ENDS_WITHIN.total_seconds()
        while not _try_lock(descriptor):
            owner = self._read("holder.json").get("owner")
            is_leftover = owner is None or is_dead(owner)
            if not is_leftover or time.monotonic() > deadline:
                raise FolderInUse(self.path, _pid_of(owner or ""))
            self._end_leftovers()
            time.sleep(0.05)

    def _end_leftovers(self) -> None:
        # A keeper that lives ends its processes itself; only where it was killed too is there something to do.
        facts = self.processes
        if is_running(facts.get("keeper")):
            return
        for process in (facts.get("worker"), facts.get("redis")):
            if process is not None and is_running(process):
                os.kill(process["pid"], signal.SIGKILL)

    def _subfolder(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        path = self.path / name
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(facts))
        draft.replace(path)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self.path / name).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return facts


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_of(owner: str) -> int | None:
    parts = owner.split(":")
    return int(parts[-2]) if len(parts) > 1 and parts[-2].isdigit() else None
