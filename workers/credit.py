"""Keeps a worker fetching after its broker was away.

A worker fetches no more than its prefetch count allows, and gets the credit of a message back when it acknowledges it.
kombu's Redis transport loses that credit where the acknowledgement cannot be sent; with none left the worker reads no
more from the socket, so that it does not even notice that the connection has gone, and stays deaf for good.
"""

from typing import Any

from kombu.transport import redis, virtual


class KeptCredit(redis.QoS):
    """Gives the credit of a message back, also where its acknowledgement fails: the message may come twice then."""

    def ack(self, delivery_tag: Any) -> None:
        try:
            remove: Any = self._remove_from_indices
            remove(delivery_tag).execute()
        finally:
            give_back: Any = virtual.QoS.ack
            give_back(self, delivery_tag)


def keep_credit() -> None:
    """Have the Redis channels of this process use it."""
    redis.Channel.QoS = KeptCredit
