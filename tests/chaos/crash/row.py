"""The rows of the crash matrix, and what each may cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.chaos.crash import owner_fault, redis_fault, worker_fault
from tests.chaos.crash.world import World

COUNT = 8
PLACES = MappingProxyType({"first": 1, "middle": COUNT // 2, "last": COUNT})
ONCE = MappingProxyType({"only": 1})
BEFORE_LAST = MappingProxyType({"first": 1, "middle": COUNT // 2, "last": COUNT - 1})
STORES = ("sqlite", "postgresql", "redis")
SQL = ("sqlite", "postgresql")

Fault = Callable[[World, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: the point where a process ends itself, or the fault that comes from outside.

    `extra` says between how many and how many executions there may be beyond one for each instance. Where it
    `is_batch`, instances run at once, on so many `processes`.
    """

    name: str
    point: str | None = None
    fault: Fault | None = None
    extra: tuple[int, int] = (0, 0)
    places: Mapping[str, int] = field(default_factory=lambda: PLACES)
    stores: tuple[str, ...] = STORES
    is_batch: bool = False
    is_poison: bool = False
    processes: int = 2

    @property
    def graph(self) -> str:
        return "batch" if self.is_batch else "graph"


BATCH = MappingProxyType({"batch": 1})
"""The first time that several instances come to the point together."""


def in_batch(name: str, point: str, *, stores: tuple[str, ...] = STORES, together: bool = True) -> Row:
    """A row of the orchestrator where one commit, or one dispatch, has all instances."""
    fault = (lambda world, _: owner_fault.commit_together(world, COUNT)) if together else None
    return Row(name=name, point=point, fault=fault, places=BATCH, stores=stores, is_batch=True, processes=COUNT)


ROWS = (
    Row(name="W1", fault=worker_fault.lose_message),
    Row(name="W2", point="after_delivery_before_claim"),
    Row(name="W3", point="after_claim_before_run"),
    Row(name="W4", fault=worker_fault.kill_child, extra=(1, 1)),
    Row(name="W5", fault=worker_fault.freeze_worker, extra=(1, 1)),
    Row(name="W6", point="after_run_before_report", extra=(1, 1)),
    Row(name="W7", fault=worker_fault.lose_reply),
    Row(name="W8", point="after_report_before_ack"),
    # It is the worker's parent that acknowledges; the next instance may have begun, for which it is W4.
    Row(name="W9", point="after_ack", extra=(0, 1)),
    # Number 3 fails in every case.
    Row(name="W10", places=ONCE),
    Row(name="W11", fault=worker_fault.kill_every_time, extra=(2, 2), is_batch=True, is_poison=True),
    Row(name="W12", fault=worker_fault.part_worker, extra=(1, 1)),
    Row(name="O1", point="before_dispatch", places=ONCE),
    Row(name="O2", point="after_queue_before_publish"),
    in_batch("O2", "after_queue_before_publish", together=False),
    Row(name="O3", point="after_publish"),
    in_batch("O3", "after_publish", together=False),
    Row(name="O4", point="after_reports_before_commit"),
    in_batch("O4", "after_reports_before_commit"),
    Row(name="O5", point="mid_commit", stores=SQL),
    in_batch("O5", "mid_commit", stores=SQL),
    Row(name="O6", point="after_commit_before_close"),
    in_batch("O6", "after_commit_before_close"),
    Row(name="O7", point="during_close"),
    in_batch("O7", "during_close"),
    Row(name="O8", point="during_fold", places=ONCE),
    Row(name="O9", point="after_outcome_before_tombstone", places=ONCE),
    Row(name="O10", fault=owner_fault.freeze_owner),
    Row(name="R1", fault=redis_fault.restart, extra=(0, 1)),
    Row(name="R2", fault=redis_fault.lose_tail, extra=(0, 1), stores=SQL),
    Row(name="R3", fault=redis_fault.wipe, extra=(0, 1), stores=SQL),
    Row(name="R4", fault=redis_fault.fill, extra=(0, 1)),
    Row(name="R5", fault=redis_fault.turn_read_only, extra=(0, 1)),
    Row(name="S1", fault=owner_fault.take_store_away, stores=SQL),
    Row(name="S2", fault=owner_fault.refuse_writes, stores=SQL),
    Row(name="S3", fault=owner_fault.restore_older, extra=(1, 2), places=BEFORE_LAST, stores=SQL),
    Row(name="S3", fault=owner_fault.restore_older_redis, extra=(0, 2), places=BEFORE_LAST, stores=("redis",)),
    Row(name="X1", fault=worker_fault.multiply_message),
)

ELSEWHERE = {
    "O5 redis": "a script is whole or not there",
    "R2 redis": "its record goes back as well, which is S3",
    "R3 redis": "it is R6",
    "R6": "not survivable: the record itself is gone",
    "S1 redis": "it is R1",
    "S2 redis": "it is R4, and R5",
    "X2": "clocks of workers and orchestrators: the process chaos has them, with --skew",
    "X3": "Redis' clock forward: the process chaos steps it, with --skew, and so does the simulation",
    "X4": "Redis' clock back: the process chaos, with --skew; tests/integration/test_redis_ledger.py, TestClock",
}
"""What has no line here, and why or where it is."""


def names_of_points() -> set[str]:
    """The points that the rows name."""
    return {row.point for row in ROWS if row.point is not None}
