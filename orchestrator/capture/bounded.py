"""The first and the last of many lines."""

from collections import deque
from collections.abc import Sequence

from orchestrator.capture.line import LogLine, left_out
from orchestrator.capture.written import Written

LINE_BYTES = 32
"""What each line counts beside its text, so that empty ones are bounded too."""

_LONGEST_SHARE = 4


class HeadAndTail:
    """Keeps lines of `max_bytes` in all: what comes first is given as it comes, what comes last is given at the end.

    Only then is that looked through for secrets: of a flood, most was dropped before.
    """

    def __init__(self, max_bytes: int) -> None:
        self._longest = max_bytes // _LONGEST_SHARE
        self._head_bytes = max_bytes // 2
        self._tail_bytes = max_bytes - self._head_bytes
        self._head: list[LogLine] = []
        self._tail: deque[tuple[int, LogLine | Written]] = deque()
        self._tail_used = 0
        self._is_head_full = False
        self._left_out_bytes = 0

    def add(self, written: Written) -> None:
        if self._is_head_full:
            self._add_last(written)
            return
        for line in self._lines(written):
            cost = _cost(line)
            self._is_head_full = self._is_head_full or cost > self._head_bytes
            if self._is_head_full:
                self._add_last(line)
            else:
                self._head_bytes -= cost
                self._head.append(line)

    def take(self, *, is_over: bool = False) -> list[LogLine]:
        """The lines that can be given by now; each is given once."""
        taken, self._head = self._head, []
        if not is_over:
            return taken
        tail = self._take_last()
        return [*taken, *self._mark(tail), *tail]

    def _lines(self, written: Written) -> list[LogLine]:
        return [line.shortened(self._longest) for line in written.lines()]

    def _add_last(self, one: LogLine | Written) -> None:
        self._tail.append((_cost(one), one))
        self._tail_used += _cost(one)
        while self._tail_used - self._tail[0][0] >= self._tail_bytes:
            cost, dropped = self._tail.popleft()
            self._tail_used -= cost
            self._left_out_bytes += dropped.byte_count

    def _take_last(self) -> list[LogLine]:
        tail, self._tail, self._tail_used = self._tail, deque(), 0
        lines = [line for _, one in tail for line in ([one] if isinstance(one, LogLine) else self._lines(one))]
        used, first = sum(map(_cost, lines)), 0
        while used > self._tail_bytes:
            used -= _cost(lines[first])
            self._left_out_bytes += lines[first].byte_count
            first += 1
        return lines[first:]

    def _mark(self, tail: Sequence[LogLine]) -> list[LogLine]:
        if not self._left_out_bytes or not tail:
            return []
        first = tail[0]
        marked = LogLine(stream=first.stream, text=left_out(self._left_out_bytes), at=first.at, is_cut=True)
        self._left_out_bytes = 0
        return [marked]


def _cost(one: LogLine | Written) -> int:
    return one.byte_count + LINE_BYTES * (one.line_count if isinstance(one, Written) else 1)
