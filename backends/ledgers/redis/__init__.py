"""The ledger in Redis: one Lua script a verb, for many slots at once."""

from backends.ledgers.redis.orchestrator import RedisLedger
from backends.ledgers.redis.worker import RedisWorkerLedger

__all__ = ["RedisLedger", "RedisWorkerLedger"]
