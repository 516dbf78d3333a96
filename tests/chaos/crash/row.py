"""The rows of the crash matrix that a sweep can do, and what each may cost."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.crash.world import World

COUNT = 8
PLACES = {"first": 1, "middle": COUNT // 2, "last": COUNT}
ONCE = {"only": 1}
STORES = ("sqlite", "postgresql", "redis")


def kill_child(world: World, nth: int) -> None:
    """SIGKILL the pool process that runs the nth instance."""
    world.kill_child_of(nth)


def freeze_worker(world: World, nth: int) -> None:
    """SIGSTOP the worker that runs the nth instance, and wake it once another one runs it."""
    world.freeze_worker_at(nth)


def wipe_redis(world: World, nth: int) -> None:
    """FLUSHALL while the nth instance runs."""
    world.wait_until_begun(nth)
    with world.redis.client() as client:
        client.flushall()


def restart_redis(world: World, nth: int) -> None:
    """SIGKILL Redis while the nth instance runs, and start it again on its append-only file."""
    world.wait_until_begun(nth)
    world.redis.kill()
    world.redis.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: the point where a process ends itself, or the fault that comes from outside.

    `extra` says between how many and how many executions there may be beyond one for each instance.
    """

    name: str
    point: str | None = None
    fault: Callable[[World, int], None] | None = None
    extra: tuple[int, int] = (0, 0)
    is_once: bool = False
    stores: tuple[str, ...] = STORES

    @property
    def places(self) -> dict[str, int]:
        return ONCE if self.is_once else PLACES


ROWS = (
    Row(name="W2", point="after_delivery_before_claim"),
    Row(name="W3", point="after_claim_before_run"),
    Row(name="W4", fault=kill_child, extra=(1, 1)),
    Row(name="W5", fault=freeze_worker, extra=(1, 1)),
    Row(name="W6", point="after_run_before_report", extra=(1, 1)),
    Row(name="W8", point="after_report_before_ack"),
    # It is the worker's parent that acknowledges; the next instance may have begun, for which it is W4.
    Row(name="W9", point="after_ack", extra=(0, 1)),
    Row(name="O1", point="before_dispatch", is_once=True),
    Row(name="O2", point="after_queue_before_publish"),
    Row(name="O3", point="after_publish"),
    Row(name="O4", point="after_reports_before_commit"),
    Row(name="O5", point="mid_commit", stores=("sqlite", "postgresql")),
    Row(name="O6", point="after_commit_before_close"),
    Row(name="O7", point="during_close"),
    Row(name="O8", point="during_fold", is_once=True),
    Row(name="O9", point="after_outcome_before_tombstone", is_once=True),
    Row(name="R1", fault=restart_redis, extra=(0, 1)),
    Row(name="R3", fault=wipe_redis, extra=(0, 1), stores=("sqlite", "postgresql")),
)

ELSEWHERE = {
    "W1": "no point of our code, between BRPOP and `unacked`",
    "W7": "a lost reply needs a proxy",
    "W10": "number 3 fails in every case",
    "W11": "needs an instance that ends its process every time; counted in tests/unit/test_recorder.py",
    "W12": "a partition needs a proxy",
    "O5 redis": "a script is whole or not there",
    "O10": "needs two orchestrators at once",
    "R2": "needs an append-only file that is rolled back",
    "R3 redis": "it is R6",
    "R4": "needs a Redis without memory, for a while",
    "R5": "needs a REPLICAOF and back",
    "R6": "not survivable",
    "S1": "needs a PostgreSQL that is stopped for a while",
    "S2": "needs a store that takes no writes for a while",
    "S3": "tests/acceptance/test_older_record.py",
}
"""What is not done here, and why or where it is."""


def names_of_points() -> set[str]:
    """The points that the rows name."""
    return {row.point for row in ROWS if row.point is not None}
