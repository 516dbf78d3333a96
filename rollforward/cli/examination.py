"""What `doctor` looks at: each check gives findings, and the worst of them decides."""

import importlib.metadata
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from backends.health.redis import RedisFacts, inspect_redis
from backends.health.sql import inspect_database
from orchestrator.errors import CallerError, OperatorError
from rollforward.cli.record import redis_url
from rollforward.cli.setting import hide_password
from rollforward.embedded.redis_binary import find_redis_server
from workers.configuration import celery_configuration
from workers.opening import open_worker_ledger
from workers.settings import Settings

OLDEST_REDIS = (6, 2)
MOST_CLOCK_OFFSET_SECONDS = 1.0
_MOST_MEMORY_SHARE = 0.7
_SHORTEST_VISIBILITY_SECONDS = 3600
_HIDDEN = "hidden by the server"
_VERSIONS = {"celery": ((5, 7), (5, 8)), "kombu": ((5, 7), (5, 8)), "redis": ((8, 1), (9,))}


class Grade(StrEnum):
    """How bad a finding is; the deployment does not hold its promise with a refused one."""

    OK = "ok"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to, and what to do about it."""

    check: str
    grade: Grade
    message: str


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding; a check that cannot reach what it looks at refuses."""
    for check in (_versions, _redis, _store, _workers, _celery):
        try:
            yield from check(settings)
        except (OperatorError, CallerError) as error:
            yield Finding(check.__name__.removeprefix("_"), Grade.REFUSED, str(error))


def _versions(_: Settings) -> Iterator[Finding]:
    for name, (lowest, above) in _VERSIONS.items():
        text = importlib.metadata.version(name)
        version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
        fits = lowest <= version < above
        wanted = f">={'.'.join(map(str, lowest))},<{'.'.join(map(str, above))}"
        message = text if fits else f"{text} is not supported; install '{name}{wanted}'"
        yield Finding(f"version of {name}", Grade.OK if fits else Grade.REFUSED, message)


def _redis(settings: Settings) -> Iterator[Finding]:
    url = redis_url(settings)
    if url is None:
        yield _embedded()
        return
    facts = inspect_redis(url, namespace=settings.namespace)
    yield from _server("redis", facts)
    yield _judged_file("redis", facts)


def _server(name: str, facts: RedisFacts) -> Iterator[Finding]:
    """What is asked of every Redis, whatever is kept in it."""
    yield _judged(f"{name} version", facts.version >= OLDEST_REDIS, facts.version_text, "Redis 6.2 or newer is needed")
    yield _judged(
        f"{name} eviction",
        facts.eviction_policy in (None, "noeviction"),
        facts.eviction_policy or _HIDDEN,
        f"it may evict what is kept ({facts.eviction_policy}); set maxmemory-policy noeviction",
    )
    yield _memory(name, facts)
    yield _clock(f"{name} clock", facts.clock_offset_seconds)
    yield _judged(f"{name} probe", facts.probe_error is None, "written, read and deleted", str(facts.probe_error))


def _embedded() -> Finding:
    binary = find_redis_server()
    if binary is None:
        return Finding(
            "redis",
            Grade.REFUSED,
            "none is configured, and no redis-server is here for embedded runs; install one, or set "
            "ROLLFORWARD_REDIS_URL, or use `--executor local`",
        )
    return Finding("redis", Grade.OK, f"embedded runs use {binary}")


def _judged_file(name: str, facts: RedisFacts) -> Finding:
    check = f"{name} append-only file"
    if facts.has_append_only_file:
        return Finding(check, Grade.OK, "on")
    advice = "off: a restart of Redis repeats the instances in flight; set appendonly yes"
    return Finding(check, Grade.WARNING, advice)


def _judged_record(name: str, facts: RedisFacts) -> Iterator[Finding]:
    """What is asked of a Redis that keeps the record of runs: a write that it confirms must survive it."""
    yield _judged(
        f"{name} append-only file",
        bool(facts.has_append_only_file),
        "on",
        "off, and the record of runs is kept in this Redis: a restart forgets them; set appendonly yes",
    )
    grades = {None: Grade.OK, "always": Grade.OK, "everysec": Grade.WARNING}
    lost = "the last second" if facts.append_fsync == "everysec" else "half a minute"
    advice = f"{facts.append_fsync}: a power cut takes {lost} of the record; set appendfsync always"
    grade = grades.get(facts.append_fsync, Grade.REFUSED)
    yield Finding(f"{name} appendfsync", grade, (facts.append_fsync or _HIDDEN) if grade is Grade.OK else advice)


def _memory(name: str, facts: RedisFacts) -> Finding:
    if not facts.memory_limit_bytes or facts.memory_used_bytes is None:
        return Finding(f"{name} memory", Grade.OK, "no limit is set")
    share = facts.memory_used_bytes / facts.memory_limit_bytes
    grade = Grade.OK if share < _MOST_MEMORY_SHARE else Grade.WARNING
    advice = "" if grade is Grade.OK else "; dispatch pauses there: raise maxmemory"
    return Finding(f"{name} memory", grade, f"{share:.0%} of maxmemory is used{advice}")


def _clock(check: str, offset_seconds: float) -> Finding:
    grade = Grade.OK if abs(offset_seconds) <= MOST_CLOCK_OFFSET_SECONDS else Grade.WARNING
    advice = "" if grade is Grade.OK else "; bring the clocks together (NTP)"
    return Finding(check, grade, f"{offset_seconds:+.2f} s from this host's{advice}")


def _store(settings: Settings) -> Iterator[Finding]:
    url, shown = settings.checkpoint_url, hide_password(settings.checkpoint_url)
    if url.startswith("memory"):
        yield Finding("checkpoint store", Grade.REFUSED, "memory:// forgets every run; set ROLLFORWARD_CHECKPOINT_URL")
    elif url.startswith(("redis", "unix")):
        began = time.monotonic()
        facts = inspect_redis(url, namespace=settings.namespace)
        yield Finding("checkpoint store", Grade.OK, f"{shown} answers in {time.monotonic() - began:.3f} s")
        yield from _server("checkpoint redis", facts)
        yield from _judged_record("checkpoint redis", facts)
    else:
        yield from _database(settings)


def _database(settings: Settings) -> Iterator[Finding]:
    facts = inspect_database(settings.checkpoint_url, namespace=settings.namespace)
    grades = {"ok": Grade.OK, "absent": Grade.OK, "older": Grade.WARNING, "newer": Grade.REFUSED}
    advice = {
        "ok": "",
        "absent": "; the first run makes it",
        "older": "; run `rollforward migrate`",
        "newer": "; upgrade this installation",
    }
    schema = facts.schema.value
    shown = hide_password(settings.checkpoint_url)
    yield Finding("database schema", grades[schema], f"{schema} in {shown}{advice[schema]}")
    if facts.clock_offset_seconds is not None:
        yield _clock("database clock", facts.clock_offset_seconds)


def _workers(settings: Settings) -> Iterator[Finding]:
    url = redis_url(settings)
    if url is None:
        return
    ledger = open_worker_ledger(settings.model_copy(update={"redis_url": url}))
    try:
        workers = ledger.workers()
    finally:
        ledger.close()
    if not workers:
        yield Finding("workers", Grade.WARNING, "none is alive; start one with `rollforward worker`")
    for worker in workers:
        graphs = worker.get("graphs")
        pairs = graphs if isinstance(graphs, list) else []
        named = ", ".join(f"{name} ({fingerprint})" for name, fingerprint in pairs)
        yield Finding(f"worker {worker['worker']}", Grade.OK, f"{worker.get('slots')} places; {named or 'no graphs'}")


def _celery(settings: Settings) -> Iterator[Finding]:
    options = celery_configuration(settings)["broker_transport_options"]
    seconds = options.get("visibility_timeout", 0) if isinstance(options, dict) else 0
    yield _judged(
        "visibility timeout",
        seconds >= _SHORTEST_VISIBILITY_SECONDS,
        f"{seconds} s",
        f"{seconds} s is so short that Celery delivers what still runs; the shortest is {_SHORTEST_VISIBILITY_SECONDS}",
    )


def _judged(check: str, is_well: bool, well: str, ill: str) -> Finding:
    return Finding(check, Grade.OK, well) if is_well else Finding(check, Grade.REFUSED, ill)
