from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Execution:
    """One time that a worker process began to run an instance."""

    index: int
    pid: int


@dataclass(frozen=True, slots=True)
class Witness:
    """The file to which every execution appends a line of its own, apart from all that rollforward keeps."""

    path: Path

    def executions(self) -> list[Execution]:
        """Every execution so far, in the order they began."""
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_text().rpartition("\n")
        return [Execution(*map(int, line.split())) for line in whole.splitlines()]

    def counts(self) -> Counter[int]:
        """How often each index was executed."""
        return Counter(execution.index for execution in self.executions())
