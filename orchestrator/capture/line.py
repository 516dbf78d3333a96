"""One line of what an instance puts out."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

CUT_BYTES = 64


Writer = tuple[str | None, int | None]
"""Which node wrote something, by its path, and in which try."""

NOBODY: Writer = (None, None)


class LogStream(StrEnum):
    """Where a line was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of a stream, or a record of a logger, which may have line ends in it.

    `is_cut` where bytes are left out in it, or where it stands in place of lines that are. `inner_node` is the path of
    the node whose code wrote it, as in outer/files/parse, and `attempt` its try, from 0; None where that is not known,
    as of child processes.
    """

    stream: LogStream
    text: str
    at: datetime
    level: str | None = None
    logger: str | None = None
    is_cut: bool = False
    inner_node: str | None = None
    attempt: int | None = None

    @property
    def writer(self) -> Writer:
        return self.inner_node, self.attempt

    @property
    def byte_count(self) -> int:
        return len(self.text.encode())

    def shortened(self, most_bytes: int) -> "LogLine":
        """The line with the middle of its text left out, where it has more bytes than that."""
        raw = self.text.encode()
        if len(raw) <= most_bytes:
            return self
        kept = max(most_bytes - CUT_BYTES, 0) // 2
        head, tail = raw[:kept].decode(errors="ignore"), raw[len(raw) - kept :].decode(errors="ignore")
        return replace(self, text=f"{head}{left_out(len(raw) - 2 * kept)}{tail}", is_cut=True)


def left_out(byte_count: int) -> str:
    """What stands in place of bytes that are not kept."""
    return f"... {byte_count} bytes left out ..."
