"""The first and the last of what was written, as it was written."""

from collections import deque
from dataclasses import dataclass

from orchestrator.capture.written import Written

LINE_BYTES = 32
"""What each line counts beside its text, so that empty ones are bounded too."""

_LONGEST_SHARE = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept of `max_bytes`: what comes first, what comes last, and of one line."""

    max_bytes: int

    @property
    def head(self) -> int:
        return self.max_bytes // 2

    @property
    def tail(self) -> int:
        return self.max_bytes - self.head

    @property
    def line(self) -> int:
        return self.max_bytes // _LONGEST_SHARE


@dataclass(frozen=True, slots=True)
class Kept:
    """What comes first and what comes last, and how much between them is left out."""

    head: list[Written]
    tail: list[Written]
    left_out_bytes: int


class HeadAndTail:
    """Keeps what was written within limits: what comes first is given as it comes, what comes last at the end.

    Nothing is looked through for secrets here: that takes long, and runs code of the user's. The last one that is kept
    for the head may go beyond it.
    """

    def __init__(self, limits: Limits) -> None:
        self._line_bytes = limits.line
        self._head_left = limits.head
        self._tail_bytes = limits.tail
        self._head: list[Written] = []
        self._tail: deque[tuple[int, Written]] = deque()
        self._tail_used = 0
        self._left_out_bytes = 0

    def add(self, written: Written) -> None:
        if self._head_left > 0:
            self._head.append(written)
            self._head_left -= sum(size + LINE_BYTES for size in written.sizes(self._line_bytes))
        else:
            self._add_last(written)

    def take(self, *, is_over: bool = False) -> Kept:
        """What can be given by now; each is given once."""
        head, self._head = self._head, []
        if not is_over:
            return Kept(head, [], 0)
        kept = Kept(head, [written for _, written in self._tail], self._left_out_bytes)
        self._tail, self._tail_used, self._left_out_bytes = deque(), 0, 0
        return kept

    def _add_last(self, written: Written) -> None:
        cost = written.byte_count + LINE_BYTES * written.line_count
        self._tail.append((cost, written))
        self._tail_used += cost
        while self._tail_used - self._tail[0][0] >= self._tail_bytes:
            cost, dropped = self._tail.popleft()
            self._tail_used -= cost
            self._left_out_bytes += dropped.byte_count
