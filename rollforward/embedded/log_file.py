"""A log that outlives a run, read from where this run began."""

from pathlib import Path

_READ_AT_MOST = 65536


class LogFile:
    """What is written to a file from now on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began_at = path.stat().st_size if path.exists() else 0

    def last_line(self) -> str | None:
        """The last line that is not blank; None where nothing was written yet."""
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            file.seek(max(self._began_at, self.path.stat().st_size - _READ_AT_MOST))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), None)
