"""What can be told of a Redis server by asking it."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from orchestrator.errors import LedgerUnavailable

_PROBE_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What a server says of itself; `clock_offset_seconds` is its clock less this host's, None is what it hides."""

    version: tuple[int, ...]
    version_text: str
    has_append_only_file: bool | None
    append_fsync: str | None
    eviction_policy: str | None
    memory_used_bytes: int | None
    memory_limit_bytes: int | None
    clock_offset_seconds: float
    probe_error: str | None


def inspect_redis(url: str, *, namespace: str) -> RedisFacts:
    """Ask a server, and write, read and delete a key.

    Raises:
        LedgerUnavailable: it does not answer.
    """
    client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, client_name="rollforward-doctor")
    try:
        return _facts(client, namespace)
    except (RedisError, OSError, ValueError) as error:
        where = client.connection_pool.connection_kwargs
        place = where.get("path") or f"{where.get('host')}:{where.get('port')}"
        raise LedgerUnavailable(f"Redis at {place} does not answer: {error}; start it or correct the URL") from error
    finally:
        client.close()


def _facts(client: "redis.Redis", namespace: str) -> RedisFacts:
    told: dict[str, Any] = client.info()
    seconds, microseconds = client.time()
    offset = seconds + microseconds / 1_000_000 - time.time()
    version = str(told["redis_version"])
    has_file = told.get("aof_enabled")
    return RedisFacts(
        version=tuple(int(part) for part in version.split(".") if part.isdigit()),
        version_text=version,
        has_append_only_file=None if has_file is None else bool(has_file),
        append_fsync=_configured(client, "appendfsync"),
        eviction_policy=told.get("maxmemory_policy"),
        memory_used_bytes=told.get("used_memory"),
        memory_limit_bytes=told.get("maxmemory"),
        clock_offset_seconds=offset,
        probe_error=_probe(client, namespace),
    )


def _configured(client: "redis.Redis", name: str) -> str | None:
    try:
        told: Any = client.config_get(name)
    except RedisError:
        return None  # managed servers and narrow users may not ask
    value: str | None = told.get(name)
    return value


def _probe(client: "redis.Redis", namespace: str) -> str | None:
    key, value = f"{namespace}:run:probe:{secrets.token_hex(8)}", secrets.token_hex(8)
    try:
        client.set(key, value, ex=_PROBE_SECONDS)
        found = client.get(key)
        client.delete(key)
    except RedisError as error:
        return str(error)
    return None if found == value.encode() else "what was written was not read"
