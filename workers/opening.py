"""A worker's end of the ledger, and the registry of workers, from the settings."""

from backends.ledgers.redis.worker import RedisWorkerLedger
from orchestrator.errors import CallerError
from orchestrator.seal import Seal
from workers.settings import Settings


class RedisNotNamed(CallerError):
    """No Redis is configured."""

    category = "redis_not_named"

    def __init__(self) -> None:
        super().__init__("workers need a Redis; set ROLLFORWARD_REDIS_URL, as in redis://localhost:6379/0")


def require_redis(settings: Settings) -> str:
    """Give the URL of the Redis.

    Raises:
        RedisNotNamed: the settings have none.
    """
    if settings.redis_url is None:
        raise RedisNotNamed
    return settings.redis_url


def open_worker_ledger(settings: Settings) -> RedisWorkerLedger:
    """Give a `WorkerLedger` that is a `WorkerRegistry` too; it connects when it is first used, and is to be closed.

    Raises:
        RedisNotNamed: the settings have no Redis.
    """
    return RedisWorkerLedger(
        require_redis(settings),
        namespace=settings.namespace,
        seal=Seal(settings.seal_keys),
        max_bytes=settings.max_item_bytes,
    )
