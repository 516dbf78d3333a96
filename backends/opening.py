"""From a URL to a backend; a driver is imported only when a URL asks for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from orchestrator.capture.log_store import LogStore, MemoryLogStore
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.errors import CallerError
from orchestrator.status.store import MemoryStatusStore, StatusStore

if TYPE_CHECKING:
    from backends.llm.setting import ChatSettings, Server
    from backends.llm.transport import HttpTransport

T = TypeVar("T")

_REDIS_SCHEMES = ("redis", "rediss", "unix")
_SQL_SCHEMES = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")


class CheckpointUrlUnknown(CallerError):
    """No store is known for the scheme of a URL."""

    category = "checkpoint_url_unknown"

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        super().__init__(
            f"no checkpoint store for {scheme!r} URLs; set ROLLFORWARD_CHECKPOINT_URL to sqlite:///FILE, "
            "postgresql+psycopg://USER@HOST/NAME, redis://HOST:6379/1, rediss://..., unix:///SOCKET or memory://"
        )


class DriverMissing(CallerError):
    """A package that is needed only for this is not installed."""

    category = "driver_missing"

    def __init__(self, package: str, extra: str, *, asked_for: str = "this") -> None:
        self.package = package
        super().__init__(f"{asked_for} needs {package}, which is not installed: pip install 'rollforward[{extra}]'")


def open_store(url: str, *, namespace: str) -> CheckpointStore:
    """The checkpoint store at this URL. It connects when it is first used, and is to be closed.

    Raises:
        CheckpointUrlUnknown: the scheme names no store.
        DriverMissing: the driver of this database is not installed.
        CallerError: the URL cannot be read, or the namespace cannot be one.
    """
    return _opened(url, memory=MemoryStore, redis=_redis_store, sql=_sql_store, namespace=namespace)


def open_logs(url: str, *, namespace: str) -> LogStore:
    """The store at this URL of what instances put out. It connects when it is first used, and is to be closed.

    Raises:
        CheckpointUrlUnknown, DriverMissing, CallerError: as `open_store`.
    """
    return _opened(url, memory=MemoryLogStore, redis=_redis_logs, sql=_sql_logs, namespace=namespace)


def open_status(url: str, *, namespace: str) -> StatusStore:
    """The store at this URL of what became of instances. It connects when it is first used, and is to be closed.

    Raises:
        CheckpointUrlUnknown, DriverMissing, CallerError: as `open_store`.
    """
    return _opened(url, memory=MemoryStatusStore, redis=_redis_status, sql=_sql_status, namespace=namespace)


def _opened(
    url: str, *, memory: Callable[[], T], redis: Callable[[str, str], T], sql: Callable[[str, str], T], namespace: str
) -> T:
    """What one of these makes: which, the scheme of the URL says."""
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme == "memory":
        return memory()
    if scheme in _REDIS_SCHEMES:
        return redis(url, namespace)
    if scheme not in _SQL_SCHEMES:
        raise CheckpointUrlUnknown(scheme)
    try:
        return sql(url, namespace)
    except ImportError as error:
        raise DriverMissing("psycopg", "postgres") from error


def _redis_store(url: str, namespace: str) -> CheckpointStore:
    from backends.checkpointers.redis.store import RedisStore

    return RedisStore(url, namespace=namespace)


def _sql_store(url: str, namespace: str) -> CheckpointStore:
    from backends.checkpointers.sql.store import SqlStore

    return SqlStore(url, namespace=namespace)


def _redis_logs(url: str, namespace: str) -> LogStore:
    from backends.status.redis_log import RedisLogStore

    return RedisLogStore(url, namespace=namespace)


def _sql_logs(url: str, namespace: str) -> LogStore:
    from backends.status.sql_log import SqlLogStore

    return SqlLogStore(url, namespace=namespace)


def _redis_status(url: str, namespace: str) -> StatusStore:
    from backends.status.redis_status import RedisStatusStore

    return RedisStatusStore(url, namespace=namespace)


def _sql_status(url: str, namespace: str) -> StatusStore:
    from backends.status.sql_status import SqlStatusStore

    return SqlStatusStore(url, namespace=namespace)


def open_http(server: "Server", settings: "ChatSettings") -> "HttpTransport":
    """What calls a model's API. It connects when it is first used, and is to be closed.

    Raises:
        DriverMissing: httpx is not installed.
    """
    try:
        from backends.llm.transport import HttpTransport
    except ImportError as error:
        raise DriverMissing("httpx", "llm") from error
    return HttpTransport(server, settings)
