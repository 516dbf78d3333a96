"""What the executions said, read from their file while it grows."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

Place = tuple[str, int]
"""A run, and the index of an instance in it."""


@dataclass(slots=True)
class Execution:
    """One time that an instance was begun; `stopped` is None while it goes on, and for ever where it was killed."""

    place: Place
    pid: int
    token: str
    began: float
    stopped: float | None = None


class History:
    """Every execution so far, in the order in which they began."""

    def __init__(self, file: Path) -> None:
        self.executions: list[Execution] = []
        self.by_place: dict[Place, list[Execution]] = defaultdict(list)
        self._file = file
        self._read = 0
        self._rest = b""
        self._going_on: dict[str, Execution] = {}

    def read(self) -> "History":
        """Take in what was written since the last time."""
        if self._file.exists():
            with self._file.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")
            for line in lines:
                self._take(line.decode())
        return self

    def going_on(self) -> list[Execution]:
        """Those that have begun and not stopped."""
        return list(self._going_on.values())

    def bury(self, pids: Collection[int]) -> None:
        """Let nothing go on in processes that were killed."""
        self._going_on = {token: one for token, one in self._going_on.items() if one.pid not in pids}

    def begun_after(self, place: Place, at: float) -> float | None:
        """When the instance was first begun after a moment."""
        return min((one.began for one in self.by_place[place] if one.began > at), default=None)

    def of(self, run_id: str) -> dict[int, list[Execution]]:
        """The executions of a run, by index."""
        return {place[1]: found for place, found in self.by_place.items() if place[0] == run_id and found}

    def _take(self, line: str) -> None:
        what, run_id, index, pid, token, at = line.split()
        if what == "began":
            execution = Execution((run_id, int(index)), int(pid), token, float(at))
            self.executions.append(execution)
            self.by_place[execution.place].append(execution)
            self._going_on[token] = execution
        elif (ended := self._going_on.pop(token, None)) is not None:
            ended.stopped = float(at)
