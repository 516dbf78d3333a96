"""How fast reports come in."""

import math


class Pace:
    """A rate that forgets: what came a second ago counts for little."""

    def __init__(self, *, memory_seconds: float = 0.5) -> None:
        self._memory_seconds = memory_seconds
        self._per_second = 0.0
        self._at = 0.0

    def note(self, count: int, now: float) -> float:
        """Take note of so many at this time, and give how many come in a second."""
        self._per_second *= math.exp((self._at - now) / self._memory_seconds)
        self._per_second += count / self._memory_seconds
        self._at = now
        return self._per_second
