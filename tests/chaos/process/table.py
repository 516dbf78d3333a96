"""How long it took until each kind of fault was made good."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import median

from tests.chaos.process.field import Fault

EXPECTED = {"child": 6.0, "worker": 17.0, "frozen": 17.0, "cut_off": 17.0, "orchestrator": 12.0, "redis": 35.0}
"""Seconds, at the default lease."""

NAMES = {
    "child": "pool child killed",
    "worker": "whole worker killed",
    "frozen": "worker frozen",
    "cut_off": "worker cut off",
    "message": "message lost",
    "orchestrator": "orchestrator killed",
    "redis": "Redis killed and back",
    "split_brain": "orchestrator frozen",
    "rollback": "Redis rolled back",
    "redis_frozen": "Redis frozen and back",
    "flush": "Redis emptied",
    "replies": "replies of Redis lost",
    "client_kill": "connections cut",
    "maxmemory": "Redis full and back",
    "redis_ahead": "Redis' clock a day ahead",
    "redis_back": "Redis' clock a day back, worker killed",
    "replica_of": "Redis read-only and back",
    "postgres": "PostgreSQL stopped and back",
}


def table(faults: Iterable[Fault], *, lease_seconds: float) -> Iterator[str]:
    """The lines of the table; a kind that was never measured alone has none."""
    seconds = defaultdict(list)
    for fault in faults:
        if fault.is_alone and fault.detected is not None:
            seconds[fault.kind].append(fault.detected)
    yield "| | count | median | largest | largest in leases | expected |"
    yield "|---|---|---|---|---|---|"
    for kind in [kind for kind in NAMES if kind in seconds]:
        found = seconds[kind]
        expected = f"<= {EXPECTED[kind]:g} s" if kind in EXPECTED else ""
        yield (
            f"| {NAMES[kind]} | {len(found)} | {median(found):.1f} s | {max(found):.1f} s "
            f"| {max(found) / lease_seconds:.2f} | {expected} |"
        )


def too_late(faults: Iterable[Fault]) -> Iterator[str]:
    """What took longer than is expected at the default lease."""
    for fault in faults:
        if fault.is_alone and fault.detected is not None and fault.detected > EXPECTED.get(fault.kind, float("inf")):
            yield f"{NAMES[fault.kind]} was made good after {fault.detected:.1f} s"
