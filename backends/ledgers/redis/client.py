"""How the ledger connects to Redis, and what its failures mean."""

import ipaddress
import logging
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    DataError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from orchestrator.errors import Fenced, LedgerLost, LedgerUnavailable

logger = logging.getLogger(__name__)

IN_THE_CLEAR = (
    "Redis is spoken to without TLS beyond this host: passwords, items and results can be read and changed on the way; "
    "use rediss://"
)
UNCHECKED = "the certificate of Redis is not checked: anyone on the way can stand in for it; drop ssl_cert_reqs"

_RETRIES = 5


def sync_client(url: str, *, name: str) -> redis.Redis:
    """A client for threads. It connects when it is first used."""
    return redis.Redis.from_url(url, retry=Retry(_backoff(), _RETRIES), **_settings(url, name))


def async_client(url: str, *, name: str) -> redis.asyncio.Redis:
    """A client for the running loop. It connects when it is first used."""
    return redis.asyncio.Redis.from_url(url, retry=AsyncRetry(_backoff(), _RETRIES), **_settings(url, name))


def without_password(url: str) -> str:
    """The URL as people may read it."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"


def transport_flaw(url: str) -> str | None:
    """What lets others on the way to a Redis listen in; None where nothing does."""
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        (wanted,) = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1:]
        is_checked = wanted.lower().removeprefix("cert_") == "required"
        return None if is_checked else UNCHECKED
    if parts.scheme != "redis" or is_loopback(parts.hostname or "localhost"):
        return None
    return IN_THE_CLEAR


def is_loopback(host: str) -> bool:
    """Whether a name or an address is of this host alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@cache
def warn_of_transport(url: str) -> None:
    """Log it once, loudly, where others can listen in."""
    flaw = transport_flaw(url)
    if flaw is not None:
        logger.warning(flaw, extra={"url": without_password(url)})


def failure(error: redis.RedisError, url: str, *, run_id: str = "", epoch: int = 0) -> Exception:
    """What an error of the client means here; itself where it shows a mistake of ours, which no waiting mends."""
    text = str(error)
    if isinstance(error, ResponseError):
        if "FENCED" in text:
            return Fenced(run_id, epoch)
        if "LEDGERLOST" in text:
            return LedgerLost(run_id)
    advice = advice_for(error)
    if advice is None and isinstance(error, _OUR_MISTAKES):
        return error
    return LedgerUnavailable(f"Redis at {without_password(url)}: {text}; {advice or _last_advice(error)}")


def _last_advice(error: redis.RedisError) -> str:
    is_away = isinstance(error, ConnectionError | TimeoutError)
    return "start it, or check ROLLFORWARD_REDIS_URL" if is_away else "look at its log"


def advice_for(error: redis.RedisError) -> str | None:
    """What to do about it; None where nothing in particular."""
    text = str(error)
    for kinds, words, advice in _ADVICE:
        if isinstance(error, kinds) or any(word in text for word in words):
            return advice
    return None


_OUR_MISTAKES = (ResponseError, DataError)
"""An error in a script, a command with wrong arguments, a value that cannot be sent."""

_ADVICE: tuple[tuple[tuple[type[Exception], ...], tuple[str, ...], str], ...] = (
    ((OutOfMemoryError,), ("OOM",), "raise its maxmemory or let the run drain"),
    ((), ("MISCONF",), "it cannot write its disk: free space, or look at its log"),
    ((ReadOnlyError,), ("READONLY", "UNBLOCKED"), "it is a replica: point ROLLFORWARD_REDIS_URL at the primary"),
    (
        (NoPermissionError,),
        # The latter two, where a script may not do something, come from a server before 7.0 and from later ones.
        ("NOPERM", "user executing the script", "ACL failure in script"),
        "give this user the commands and keys that docs/security.md lists",
    ),
    ((NoScriptError,), (), "it was restarted just now; it is asked again"),
    ((ClusterDownError,), ("BUSY ", "TRYAGAIN", "NOREPLICAS"), "it is busy or failing over; wait, or look at its log"),
    (
        (),
        ("CERTIFICATE_VERIFY_FAILED",),
        "its certificate is signed by nobody who is known here, or for another name: "
        "add ?ssl_ca_certs=FILE to the URL, with the certificate of your authority",
    ),
)


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=1)


def _settings(url: str, name: str) -> dict[str, Any]:
    warn_of_transport(url)
    settings = {"socket_timeout": 10, "socket_connect_timeout": 5, "health_check_interval": 30, "client_name": name}
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return {**settings, **keepalive, "protocol": 2}
