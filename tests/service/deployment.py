"""A deployment as a user has it: Redis, a checkpoint store, workers and the command line."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.opening import open_store
from tests.service.forking import Forked, can_be_forked, forked
from tests.service.redis import RedisServer
from tests.service.worker import HEARTBEAT_SECONDS, LEASE_SECONDS, REPOSITORY, WorkerProcess, wait_until

Command = subprocess.Popen[str] | Forked

AT_ONCE = 2
"""How many instances the workers of a test run at once."""


class Deployment:
    """Starts what a test asks for, with the settings of one deployment; what still runs at the end is killed.

    `environment` adds to the settings.
    """

    def __init__(
        self,
        folder: Path,
        redis: RedisServer,
        checkpoint_url: str,
        *,
        graphs: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.checkpoint_url = checkpoint_url
        self.graphs = tuple(graphs)
        self.witness = folder / "witness"
        self._added = dict(environment or {})
        self._workers: list[WorkerProcess] = []
        self._commands: list[Command] = []

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "CELERY_"))
        }
        return {
            **inherited,
            "ROLLFORWARD_REDIS_URL": self.redis.url,
            "ROLLFORWARD_CHECKPOINT_URL": self.checkpoint_url,
            "ROLLFORWARD_GRAPHS": ",".join(self.graphs),
            "ROLLFORWARD_LEASE_SECONDS": str(LEASE_SECONDS),
            "ROLLFORWARD_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "ROLLFORWARD_WITNESS": str(self.witness),
            **self._added,
        }

    def worker(self, name: str = "worker", *, concurrency: int = 2) -> WorkerProcess:
        """Start a worker and wait until it has announced itself."""
        worker = WorkerProcess(
            self.folder,
            redis_url=self.redis.url,
            graphs=self.graphs,
            concurrency=concurrency,
            name=name,
            environment=self.environment,
        )
        self._workers.append(worker)
        return worker.start()

    def begin(self, *arguments: str) -> Command:
        """Start a command of `rollforward`."""
        command = self._command(arguments)
        self._commands.append(command)
        return command

    def ended(self, command: Command, *, seconds: float = 90) -> dict[str, Any]:
        """Wait for a command that succeeds, and give the JSON that it printed."""
        out, err = command.communicate(timeout=seconds)
        assert command.returncode == 0, f"exit {command.returncode}\n{out}\n{err}"
        printed: dict[str, Any] = json.loads(out)
        return printed

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run a command of `rollforward` that succeeds to its end, and give the JSON that it printed."""
        ended = forked(arguments, folder=REPOSITORY, environment=self.environment, seconds=90)
        assert ended.code == 0, f"exit {ended.code}\n{ended.stdout}\n{ended.stderr}"
        printed: dict[str, Any] = ended.document
        return printed

    def _command(self, arguments: Sequence[str]) -> Command:
        if can_be_forked(self.environment):
            return Forked("rollforward", arguments, folder=REPOSITORY, environment=self.environment)
        return subprocess.Popen(
            [sys.executable, "-m", "rollforward", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=self.environment,
        )

    def executions(self) -> Counter[int]:
        """How often each instance was begun, by index."""
        return Counter(index for index, _ in self.witnessed())

    def witnessed(self) -> list[tuple[int, int]]:
        """Index and pid of every execution, in the order in which they began."""
        if not self.witness.exists():
            return []
        lines = self.witness.read_text().splitlines()
        return [(int(index), int(pid)) for index, pid in (line.split() for line in lines)]

    def recorded(self, run_id: str, *, entry: int = 0) -> set[int]:
        """The indexes that the store has recorded of a fan-out of the run: the first, or one that was entered later."""

        async def read() -> set[int]:
            store = open_store(self.checkpoint_url, namespace="rollforward")
            try:
                rows = await store.fan_outs(run_id)
                if len(rows) <= entry:
                    return set()
                return {row.report.slot.index async for row in store.slots(run_id, rows[entry].id)}
            finally:
                await store.close()

        return asyncio.run(read())

    def wait_until_recorded(self, run_id: str, count: int, command: Command) -> set[int]:
        """Wait until so many instances are recorded, while `command` drives the run; give those that are."""

        def enough() -> bool:
            assert command.poll() is None, f"it ended with {command.returncode}: {command.communicate()}"
            return len(self.witnessed()) > count + AT_ONCE

        wait_until(enough, what=f"{count} instances have ended")
        wait_until(lambda: len(self.recorded(run_id)) >= count, what=f"{count} are recorded")
        return self.recorded(run_id)

    def close(self) -> None:
        """End what still runs."""
        for command in self._commands:
            if command.poll() is None:
                command.kill()
            command.communicate()
        for worker in self._workers:
            worker.discard()
