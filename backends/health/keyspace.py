"""Whose keys are in a Redis database."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from backends.health.redis import asked

if TYPE_CHECKING:
    import redis

MOST_KEYS = 200_000
_AT_ONCE = 1_000
_OURS = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,40}):(run|mq|cp|log|status):(.*)", re.DOTALL)
_RUN = re.compile(r"\{(.+)\}:meta", re.DOTALL)
_OF_BROKER = re.compile(r"unacked.*|_kombu\..*", re.DOTALL)
_OF_EVENTS = re.compile(r"celeryev.*|.*\.pidbox", re.DOTALL)


@dataclass(slots=True)
class Keyspace:
    """What was seen of a database, from the eyes of one namespace.

    `runs` are those that the ledger has in flight, `queues` the names of what waits in the broker, `event_queues` what
    Celery's events and remote control left there. `strange` are keys that begin as the namespace's and are none of
    ours. `namespaces` are other deployments, `foreign` the keys of other programs. `is_whole` is false where there
    were too many keys to look at all.
    """

    runs: set[str] = field(default_factory=set)
    queues: set[str] = field(default_factory=set)
    event_queues: set[str] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    is_whole: bool = True


def inspect_keyspace(url: str, *, namespace: str) -> Keyspace | None:
    """Look at the names of all keys; None where the server does not show them to this user.

    Raises:
        LedgerUnavailable: it does not answer.
    """
    return asked(url, lambda client: _looked(client, namespace))


def sorted_out(keys: Iterable[str], namespace: str) -> Keyspace:
    """Tell whose each key is."""
    seen = Keyspace()
    for number, key in enumerate(keys):
        if number >= MOST_KEYS:
            seen.is_whole = False
            break
        _sort(key, namespace, seen)
    return seen


def _looked(client: "redis.Redis", namespace: str) -> Keyspace | None:
    try:
        return sorted_out(_keys(client), namespace)
    except ResponseError:
        return None


def _keys(client: "redis.Redis") -> Iterator[str]:
    for key in client.scan_iter(count=_AT_ONCE):
        yield key.decode(errors="backslashreplace")


def _sort(key: str, namespace: str, seen: Keyspace) -> None:
    ours = _OURS.fullmatch(key)
    if ours is None:
        (seen.strange if key.startswith(f"{namespace}:") else seen.foreign).add(key)
        return
    owner, kind, rest = ours.groups()
    if owner != namespace:
        seen.namespaces.add(owner)
    elif kind == "mq":
        _sort_broker(rest, seen)
    elif kind == "run" and (run := _RUN.fullmatch(rest)):
        seen.runs.add(run.group(1))


def _sort_broker(name: str, seen: Keyspace) -> None:
    if _OF_EVENTS.fullmatch(name):
        seen.event_queues.add(name)
    elif not _OF_BROKER.fullmatch(name):
        seen.queues.add(name)
