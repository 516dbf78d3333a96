"""Clocks that are a day ahead or behind, in some of the processes, and that of Redis, which steps: libfaketime."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from rollforward.embedded.redis_binary import find_redis_server
from tests.chaos.process.size import Size
from tests.service.redis import RedisServer

LIBRARIES = "usr/lib/*/faketime/libfaketimeMT.so.1"
FAKED = Path(__file__).parent / "faked"
OFFSETS = ("+24h", "-24h")
REDIS = "redis"
"""Its name among those whose environment is added to."""


class FaketimeMissing(Exception):
    """The library that sets a process's clock is not there."""

    def __init__(self) -> None:
        super().__init__("--skew needs libfaketime: `apt-get install libfaketime`, or name its file with --faketime")


def faketime(named: Path | None) -> Path:
    """The library.

    Raises:
        FaketimeMissing: it is nowhere.
    """
    found = [named] if named else sorted(Path("/").glob(LIBRARIES))
    if not found or not found[0].exists():
        raise FaketimeMissing
    return found[0].resolve()


def skewed(size: Size, library: Path, *, orchestrators: bool) -> dict[str, Mapping[str, str]]:
    """What is added to the environment of all but the last of the workers, and of the orchestrators if so asked."""
    names = [f"worker-{number}" for number in range(size.workers - 1)]
    names += [f"serve-{number}" for number in range(size.orchestrators - 1) if orchestrators]
    path = os.pathsep.join(part for part in (str(FAKED), os.environ.get("PYTHONPATH", "")) if part)
    # The clock that counts from the start of the machine goes on as it is, as where an administrator sets the time.
    of_processes = {
        name: {
            "LD_PRELOAD": str(library),
            "FAKETIME": OFFSETS[at % 2],
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": path,
        }
        for at, name in enumerate(names)
    }
    return {**of_processes, REDIS: {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}}


class SteppingRedis(RedisServer):
    """Its clock, but for the one that counts from the start of the machine, is set while it runs."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        self._file = folder / "clock"
        self.offset_seconds = 0
        # It looks into the file once a second.
        of_clock = {"FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_CACHE_DURATION": "1"}
        self._environment = {**os.environ, **environment, **of_clock}

    def start(self) -> "SteppingRedis":
        """As any, on its clock as it was stepped last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step(0)
        with self.log.open("ab") as log:
            command = [str(find_redis_server()), *self._arguments()]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        self._wait_until_it_answers()
        return self

    def step(self, seconds: int) -> None:
        """Set its clock on by so much, or back; it is so within a second."""
        self.offset_seconds += seconds
        self._file.write_text(f"{self.offset_seconds:+d}\n")
