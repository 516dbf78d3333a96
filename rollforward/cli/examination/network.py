"""What travels between hosts, and who may read or write it there."""

import ipaddress
import re
import socket
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from backends.health.redis import inspect_redis
from orchestrator.errors import OperatorError
from rollforward.cli.examination.finding import Finding, warning, well
from rollforward.cli.examination.role import BROKER, CHECKPOINTS, roles
from rollforward.cli.output import counted
from workers.settings import Settings

_LEAST_SECRET_BYTES = 16
_WITH_TLS = {"redis": "rediss://", "amqp": "amqps://", "pyamqp": "amqps://"}
_ENCRYPTED = frozenset({"rediss", "amqps"})
_UNCHECKED = re.compile(r"(CERT_)?NONE", re.IGNORECASE)


def encryption(settings: Settings) -> Iterator[Finding]:
    """Each connection to Redis or a broker: without TLS, whoever sits between hosts reads and writes all of it."""
    for subject, url in _addresses(settings):
        yield judged(subject, url)


def judged(subject: str, url: str) -> Finding:
    """What the URL alone says."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or not parts.hostname or is_local(parts.hostname):
        return well("tls", "on this host", subject=subject)
    if parts.scheme not in _ENCRYPTED:
        found = f"NOT ENCRYPTED: {parts.scheme}:// to {parts.hostname}; all that travels is read on the way"
        return warning("tls", found, f"use {_WITH_TLS.get(parts.scheme, 'TLS')}", subject=subject)
    checked = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1]
    if _UNCHECKED.fullmatch(checked):
        found = f"encrypted, and whoever answers for {parts.hostname} is believed"
        return warning("tls", found, "leave ssl_cert_reqs out, and name the authority in ssl_ca_certs", subject=subject)
    return well("tls", "encrypted", subject=subject)


def of_database(host: str | None, *, is_encrypted: bool) -> Finding:
    """The connection to a database; without a host no network lies between."""
    if is_local(host):
        return well("tls", "on this host", subject=CHECKPOINTS)
    if is_encrypted:
        return well("tls", "encrypted", subject=CHECKPOINTS)
    found = f"NOT ENCRYPTED: postgresql:// to {host}; the record is read on the way"
    return warning("tls", found, "add sslmode=verify-full to ROLLFORWARD_CHECKPOINT_URL", subject=CHECKPOINTS)


def access(settings: Settings) -> Iterator[Finding]:
    """Who may write to Redis, and whether what is written there is believed."""
    found = [role for role in roles(settings) if not is_local(urlsplit(role.url).hostname)]
    for role in found:
        try:
            user = inspect_redis(role.url, namespace=settings.namespace).user
        except OperatorError:
            continue  # said already, where the server is examined
        yield _user(role.name, user)
    yield _seal(settings, is_remote=bool(found))


def is_local(host: str | None) -> bool:
    """Whether a host's addresses are all this host's own; None is a socket."""
    if host is None:
        return True
    try:
        addresses = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def _addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    seen = set()
    for role in roles(settings):
        seen.add(role.name)
        yield role.name, role.url
    if settings.broker_url and BROKER not in seen and settings.broker_url != settings.redis_url:
        yield BROKER, settings.broker_url


def _user(subject: str, user: str | None) -> Finding:
    if user != "default":
        return well("redis_user", user or "hidden by the server", subject=subject)
    found = "the default user, who may do everything"
    way_out = "turn it off, and give each role the user that docs/security.md lists"
    return warning("redis_user", found, way_out, subject=subject)


def _seal(settings: Settings, *, is_remote: bool) -> Finding:
    keys = settings.seal_keys
    if not keys and is_remote:
        found = "no secret: whoever can write to Redis can forge messages and results"
        return warning("seal", found, "set the same ROLLFORWARD_SECRET for all processes")
    if any(len(key.encode()) < _LEAST_SECRET_BYTES for key in keys):
        found = f"a secret of less than {_LEAST_SECRET_BYTES} bytes can be guessed"
        return warning("seal", found, "make one with `openssl rand -hex 24`")
    return well("seal", counted(len(keys), "secret") if keys else "no secret; Redis is on this host")
