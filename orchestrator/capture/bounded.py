"""The first and the last of many lines."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.capture.line import LogLine, left_out

LINE_BYTES = 32
"""What each line counts beside its text, so that empty ones are bounded too."""

_LONGEST_SHARE = 4


class HeadAndTail:
    """Keeps lines of `max_bytes` in all: what comes first is given as it comes, what comes last is given at the end."""

    def __init__(self, max_bytes: int) -> None:
        self._longest = max_bytes // _LONGEST_SHARE
        self._head_bytes = max_bytes // 2
        self._tail_bytes = max_bytes - self._head_bytes
        self._head: list[LogLine] = []
        self._tail: deque[LogLine] = deque()
        self._tail_used = 0
        self._is_head_full = False
        self._left_out_bytes = 0

    def add(self, line: LogLine) -> None:
        line = line.shortened(self._longest)
        cost = _cost(line)
        if not self._is_head_full and cost <= self._head_bytes:
            self._head_bytes -= cost
            self._head.append(line)
            return
        self._is_head_full = True
        self._tail.append(line)
        self._tail_used += cost
        while self._tail_used > self._tail_bytes:
            dropped = self._tail.popleft()
            self._tail_used -= _cost(dropped)
            self._left_out_bytes += dropped.byte_count

    def take(self, *, is_over: bool = False) -> list[LogLine]:
        """The lines that can be given by now; each is given once."""
        taken, self._head = self._head, []
        if not is_over:
            return taken
        tail, self._tail = list(self._tail), deque()
        return [*taken, *self._mark(tail), *tail]

    def _mark(self, tail: Sequence[LogLine]) -> list[LogLine]:
        if not self._left_out_bytes or not tail:
            return []
        marked = replace(tail[0], text=left_out(self._left_out_bytes), level=None, logger=None, is_cut=True)
        self._left_out_bytes = 0
        return [marked]


def _cost(line: LogLine) -> int:
    return line.byte_count + LINE_BYTES
