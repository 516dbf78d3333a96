"""A folder in which the processes of one worker leave what they count."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "rollforward-metrics-"
YOUNG_SECONDS = 60
FILES = ("counter", "histogram", "gauge_livesum")
FILE_BYTES = 1 << 16
"""What prometheus_client begins a file with, and more than a process of ours fills."""


class ProcessFolder:
    """A new folder that only this user reads, gone when it is removed.

    It is locked while a process of its worker lives: what a killed worker has left behind is removed by the next one.
    """

    def __init__(self) -> None:
        self._remove_left_ones()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._owner_pid = os.getpid()
        # Held until the last of these processes has ended.
        self._lock: int | None = _locked(self.path)

    def allot(self, process: str) -> None:
        """Make the files of a process, with all the space they need: a full disk must not kill it when it counts.

        Raises:
            OSError: there is no such space.
        """
        for kind in FILES:
            with (self.path / f"{kind}_{process}.db").open("ab") as file:
                file.write(bytes(max(0, FILE_BYTES - file.tell())))

    def remove(self) -> None:
        """Remove it, in the process that made it; once more does nothing."""
        lock, self._lock = self._lock, None
        if os.getpid() == self._owner_pid and lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(lock)

    @staticmethod
    def _remove_left_ones() -> None:
        for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                # A young one may be about to be locked.
                if time.time() - path.stat().st_mtime > YOUNG_SECONDS:
                    lock = _locked(path)
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)


def _locked(folder: Path) -> int:
    """A lock that lasts while its file is open, here or in a process that was forked.

    It is one that cleaners of temporary files heed.

    Raises:
        OSError: another process has it, or the folder is another user's.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file
