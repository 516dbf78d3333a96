"""Whether this worker still hears from its broker, which a heartbeat to the ledger does not tell.

A consumer over Redis is answered every second, with a message or with the word that there is none. Where its connection
has died without a sign, or it was told to consume no more, it hears nothing: it is alive, and takes nothing.
"""

import time
from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.transport import redis

HEARD_WITHIN_SECONDS = 5.0
"""A consumer that listens and has heard nothing for longer is no evidence that its places are free."""


class Hearing:
    """When the broker was last heard."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()

    def note(self) -> None:
        """It was heard now, or need not be."""
        self._at = self._clock()

    @property
    def silent_seconds(self) -> float:
        """For how long it was not."""
        return self._clock() - self._at


hearing = Hearing()
"""Of this worker, in its parent process."""


def listen() -> None:
    """Have the Redis channels of this process note what they hear."""
    # Half of kombu's signatures have types.
    channel: Any = redis.Channel
    read = channel._brpop_read  # noqa: SLF001 - no public place sees an answer that brings no message

    def brpop_read(channel: Any, **options: Any) -> Any:
        try:
            found = read(channel, **options)
        except Empty:
            hearing.note()
            raise
        hearing.note()
        return found

    channel._brpop_read = brpop_read  # noqa: SLF001 - as above
