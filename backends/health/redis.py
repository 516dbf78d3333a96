"""What can be told of a Redis server by asking it."""

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from backends.ledgers.redis.client import without_password
from orchestrator.errors import LedgerUnavailable

T = TypeVar("T")

PROBE = "probe"
_PROBE_SECONDS = 10
# Where a script may not do something, a server before 7.0 says the one and later ones the other.
_DENIALS = ("user executing the script", "ACL failure in script")
_SETTINGS = (
    "appendfsync",
    "timeout",
    "tcp-keepalive",
    "client-output-buffer-limit",
    "min-replicas-to-write",
    "proto-max-bulk-len",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What a server says of itself; `clock_offset_seconds` is its clock less this host's, None is what it hides.

    `append_error` and `probe_error` are None where all is well. `settings` are those of its configuration that it
    shows. `user` is whom it takes us for.
    """

    version: tuple[int, ...]
    version_text: str
    has_append_only_file: bool | None
    append_error: str | None
    eviction_policy: str | None
    memory_used_bytes: int | None
    memory_limit_bytes: int | None
    clock_offset_seconds: float
    is_replica: bool
    is_cluster: bool
    replicas: int
    settings: Mapping[str, str]
    user: str | None
    probe_error: str | None


def inspect_redis(url: str, *, namespace: str) -> RedisFacts:
    """Ask a server, and write, read and delete a key.

    Raises:
        LedgerUnavailable: it does not answer, or tells this user nothing.
    """
    return asked(url, lambda client: _facts(client, namespace))


def asked(url: str, ask: Callable[["redis.Redis"], T]) -> T:
    """What `ask` finds out of a server.

    Raises:
        LedgerUnavailable: it does not answer, or tells this user nothing.
    """
    place = without_password(url)
    try:
        client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, client_name="rollforward-doctor")
        with contextlib.closing(client):
            return ask(client)
    except NoPermissionError as error:
        reason = f"Redis at {place} tells this user nothing: {error}; ask as the orchestrator's user"
        raise LedgerUnavailable(reason) from error
    except (RedisError, OSError, ValueError) as error:
        reason = f"Redis at {place} does not answer: {error}; start it or correct the URL"
        raise LedgerUnavailable(reason) from error


def is_denied(error: BaseException) -> bool:
    """Whether the server did not let this user do something, rather than being unable to."""
    cause = error.__cause__
    return isinstance(cause, NoPermissionError) or any(word in str(cause) for word in _DENIALS)


def _facts(client: "redis.Redis", namespace: str) -> RedisFacts:
    told: dict[str, Any] = client.info()
    version = str(told["redis_version"])
    has_file = told.get("aof_enabled")
    append_status = told.get("aof_last_write_status", "ok")
    return RedisFacts(
        version=tuple(int(part) for part in version.split(".") if part.isdigit()),
        version_text=version,
        has_append_only_file=None if has_file is None else bool(has_file),
        append_error=str(append_status) if has_file and append_status != "ok" else None,
        eviction_policy=told.get("maxmemory_policy"),
        memory_used_bytes=told.get("used_memory"),
        memory_limit_bytes=told.get("maxmemory"),
        clock_offset_seconds=_clock_offset(client),
        is_replica=told.get("role") == "slave",
        is_cluster=bool(told.get("cluster_enabled")),
        replicas=int(told.get("connected_slaves", 0)),
        settings=_settings(client),
        user=_user(client),
        probe_error=_probe(client, namespace),
    )


def _clock_offset(client: "redis.Redis") -> float:
    before = time.time()
    seconds, microseconds = client.time()
    # It was asked in the middle of the round trip, as far as can be told.
    return seconds + microseconds / 1_000_000 - (before + time.time()) / 2


def _settings(client: "redis.Redis") -> Mapping[str, str]:
    found: dict[str, str] = {}
    # Managed servers and narrow users may not ask.
    with contextlib.suppress(ResponseError):
        for name in _SETTINGS:
            told: Any = client.config_get(name)
            found.update(told)
    return found


def _user(client: "redis.Redis") -> str | None:
    try:
        told: Any = client.acl_whoami()
    except ResponseError:
        return None
    return told.decode() if isinstance(told, bytes) else str(told)


def _probe(client: "redis.Redis", namespace: str) -> str | None:
    key, value = f"{namespace}:run:{PROBE}:{secrets.token_hex(8)}", secrets.token_hex(8)
    try:
        client.set(key, value, ex=_PROBE_SECONDS)
        found = client.get(key)
        client.delete(key)
    except ResponseError as error:
        return str(error)
    return None if found == value.encode() else "what was written was not read"


def expire_keys(url: str, keys: Sequence[str], *, seconds: int) -> None:
    """Let keys go after so many seconds, whoever is left to delete them.

    Raises:
        LedgerUnavailable: the server does not answer.
    """

    def expire(client: "redis.Redis") -> None:
        for key in keys:
            client.expire(key, seconds)

    asked(url, expire)
