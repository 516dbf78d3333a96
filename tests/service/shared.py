"""What all processes of a test run need, and one of them makes."""

import fcntl
import os
import pickle
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, called by the first process of this test run that asks; the others wait, and get a copy."""
    folder = factory.getbasetemp()
    # Processes of pytest-xdist have a folder each, in one of the run.
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    kept = folder / f"{name}.pickle"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make()))
        made: T = pickle.loads(kept.read_bytes())
        return made
