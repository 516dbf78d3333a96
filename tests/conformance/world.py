"""What a fixture's nodes and middleware leave behind for its assertions, and what its failure mocks count."""

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from orchestrator.context import current_lineage, current_run_id

COUNTERS = "ROLLFORWARD_CONFORMANCE_COUNTERS"
"""The environment variable with the Redis that failure mocks count in, where their nodes run in several processes."""


class Counters(Protocol):
    """Counts calls, by whatever tells one mock of one instance of one run from all others."""

    def next(self, key: str) -> int:
        """How often this was asked before with this key."""

    def asked(self, key: str) -> int:
        """How often `next` was asked with this key."""

    def began(self, run_id: str) -> None:
        """A node of the run begins."""

    def ended(self, run_id: str) -> None:
        """A node of the run has ended."""

    def most(self, run_id: str) -> int:
        """How many nodes of the run ever ran at once."""


class MemoryCounters:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._most: Counter[str] = Counter()

    def next(self, key: str) -> int:
        self._counts[key] += 1
        return self._counts[key] - 1

    def asked(self, key: str) -> int:
        return self._counts[key]

    def began(self, run_id: str) -> None:
        self._counts[run_id] += 1
        self._most[run_id] = max(self._most[run_id], self._counts[run_id])

    def ended(self, run_id: str) -> None:
        self._counts[run_id] -= 1

    def most(self, run_id: str) -> int:
        return self._most[run_id]


class RedisCounters:
    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url)

    def next(self, key: str) -> int:
        return int(self._client.incr(f"conformance:{key}")) - 1

    def asked(self, key: str) -> int:
        return int(self._client.get(f"conformance:{key}") or 0)

    def began(self, run_id: str) -> None:
        now = self._client.incr(f"conformance:running:{run_id}")
        self._client.zadd(f"conformance:most:{run_id}", {"most": now}, gt=True)

    def ended(self, run_id: str) -> None:
        self._client.decr(f"conformance:running:{run_id}")

    def most(self, run_id: str) -> int:
        return int(self._client.zscore(f"conformance:most:{run_id}", "most") or 0)


def counters() -> Counters:
    """Those of this process, or those that all processes share."""
    url = os.environ.get(COUNTERS)
    return MemoryCounters() if url is None else RedisCounters(url)


def calls_so_far(counted: Counters, mock: str) -> int:
    """How often this mock was called before, in this instance of this run."""
    place = "/".join(f"{step.node}[{step.index}]" for step in current_lineage())
    return counted.next(f"{current_run_id()}:{place}:{mock}")


@dataclass
class World:
    """Shared by everything that one case builds in one process."""

    counters: Counters = field(default_factory=counters)
    observers: dict[str, Any] = field(default_factory=dict)
    flaky_calls: int = 0
    stops_early: bool = False
    """Whether a fan-out of the case ends at its first failure."""
    trace_records: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    captured: list[tuple[str, Any]] = field(default_factory=list)
    side_channel: dict[str, Any] = field(default_factory=dict)
    degraded_from: list[Any] = field(default_factory=list)
    caught: list[Exception] = field(default_factory=list)
    drains: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    drain_seconds: dict[str, float] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    migrations_run: list[str] = field(default_factory=list)
    queryable: dict[str, Any] = field(default_factory=dict)
    are_immutable: list[bool] = field(default_factory=list)
    """Of every time that a node read the metadata, whether it could have changed it."""
