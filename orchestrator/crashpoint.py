"""Named points of the way of an instance where tests end the process, to see what that costs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

EXIT_CODE = 137


@dataclass(slots=True)
class Crash:
    """The `nth` arrival at the point `name`; with `file`, that of all processes which share it, also later ones.

    The file has one byte for every arrival: who writes the nth is the one that crashes, and nobody after it.
    """

    name: str
    nth: int
    file: Path | None = None
    _count: int = field(default=0, init=False)

    @classmethod
    def asked_for(cls, environment: Mapping[str, str]) -> "Crash | None":
        """What ROLLFORWARD_CRASH (`name:nth`) and ROLLFORWARD_CRASH_FILE ask for."""
        name, _, nth = environment.get("ROLLFORWARD_CRASH", "").partition(":")
        file = environment.get("ROLLFORWARD_CRASH_FILE")
        return cls(name, int(nth or 1), Path(file) if file else None) if name else None

    def is_due(self, name: str) -> bool:
        """Count an arrival at a point, and say whether it is the one."""
        return name == self.name and self._arrival() == self.nth

    def _arrival(self) -> int:
        if self.file is None:
            self._count += 1
            return self._count
        file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, b".")
            # Where this process's own byte ends: appending moves there in one step, whoever else appends.
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)


_asked = Crash.asked_for(os.environ)


def crashpoint(name: str) -> None:
    """End this process at once, as SIGKILL would, where a test asks for it here; otherwise do nothing."""
    if _asked is not None and _asked.is_due(name):
        os._exit(EXIT_CODE)
