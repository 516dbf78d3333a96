"""Lines without secrets."""

from collections.abc import Iterable

from orchestrator.capture.bounded import LINE_BYTES, Kept, Limits
from orchestrator.capture.line import LogLine, left_out
from orchestrator.capture.written import Written


class CleanLines:
    """Gives the lines of what was kept: without secrets, and within the same limits, also where that made them longer.

    Of what was kept for the head, what does not fit into it is given at the end, as far as there is room for it.
    """

    def __init__(self, limits: Limits) -> None:
        self._line_bytes = limits.line
        self._head_left = limits.head
        self._tail_bytes = limits.tail
        self._late: list[LogLine] = []

    def of(self, kept: Kept, *, is_over: bool) -> list[LogLine]:
        """The lines that can be given by now; each is given once."""
        head = self._fitting(self._lines(kept.head))
        return [*head, *self._last(kept)] if is_over else head

    def _lines(self, many: Iterable[Written]) -> list[LogLine]:
        return [line.shortened(self._line_bytes) for written in many for line in written.lines()]

    def _fitting(self, lines: Iterable[LogLine]) -> list[LogLine]:
        fitting: list[LogLine] = []
        for line in lines:
            if self._late or _cost(line) > self._head_left:
                self._late.append(line)
            else:
                self._head_left -= _cost(line)
                fitting.append(line)
        return fitting

    def _last(self, kept: Kept) -> list[LogLine]:
        late, self._late = self._late, []
        tail = self._lines(kept.tail)
        lines = [*late, *tail]
        # What is left out follows what comes late: no line before it is kept.
        first = len(late) if kept.left_out_bytes else 0
        used = sum(map(_cost, lines[first:]))
        while used > self._tail_bytes:
            used -= _cost(lines[first])
            first += 1
        return _marked(lines[first:], kept.left_out_bytes + sum(line.byte_count for line in lines[:first]))


def _marked(lines: list[LogLine], left_out_bytes: int) -> list[LogLine]:
    if not left_out_bytes or not lines:
        return lines
    first = lines[0]
    return [LogLine(stream=first.stream, text=left_out(left_out_bytes), at=first.at, is_cut=True), *lines]


def _cost(line: LogLine) -> int:
    return line.byte_count + LINE_BYTES
