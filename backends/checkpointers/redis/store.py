"""A checkpoint store in Redis."""

from backends.checkpointers.redis.record import RedisRecord
from backends.checkpointers.redis.runs import RedisRuns
from backends.checkpointers.redis.view import RedisView


class RedisStore(RedisRuns, RedisRecord, RedisView):
    """A `CheckpointStore` in the keys of one namespace, from any number of event loops.

    Every write is one script, so that it happens whole or not at all. It is as durable as this Redis: with an
    append-only file that is synced at every write it keeps what it has accepted, and without one it keeps nothing.
    """
