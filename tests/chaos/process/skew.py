"""Clocks that are a day ahead or behind, in some of the processes: Debian's libfaketime."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.process.size import Size

LIBRARIES = "usr/lib/*/faketime/libfaketimeMT.so.1"
FAKED = Path(__file__).parent / "faked"
OFFSETS = ("+24h", "-24h")


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
    return {
        name: {
            "LD_PRELOAD": str(library),
            "FAKETIME": OFFSETS[at % 2],
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": path,
        }
        for at, name in enumerate(names)
    }
