"""Every checkpoint store there is, and what tests put into one."""

import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.checkpointers.redis.store import RedisStore
from backends.checkpointers.sql.store import SqlStore
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import (
    FanOutRow,
    InnerRows,
    Loss,
    NewRun,
    Ownership,
    Seen,
    SlotRow,
    Step,
)
from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.identity import FanOutKey, Slot
from orchestrator.report import Outcome, Report

LONG = timedelta(minutes=5)
ENDED = timedelta(seconds=-5)
DEAD = Seen(1, has_dead_owner=True)
_NUMBERS = itertools.count()
FAN_OUT = FanOutKey((), "files")
AWKWARD = "a'b\"c\\ \n\0 \u202e %_ \U0001f600 \ud800"
FAILURE = ErrorRecord("node_exception", AWKWARD, "ValueError", "Traceback ...", (CauseLink(None, "m", "E", True),))


@dataclass
class Place:
    """One database; every store that is opened on it is closed in the end."""

    kind: str
    make: Callable[[], CheckpointStore]
    opened: list[CheckpointStore] = field(default_factory=list)

    def open(self) -> CheckpointStore:
        store = self.make()
        self.opened.append(store)
        return store

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


def make_place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if kind == "memory":
        only = MemoryStore()
        return Place(kind, lambda: only)
    if kind == "redis":
        redis_url = request.getfixturevalue("redis_url")
        return Place(kind, lambda: RedisStore(redis_url, namespace="contract"))
    if kind == "sqlite":
        return Place(kind, lambda: SqlStore(f"sqlite:///{folder}/state.db", namespace="contract"))
    server, namespace = request.getfixturevalue("postgres_server"), f"contract_{next(_NUMBERS)}"
    return Place(kind, lambda: SqlStore(server.url, namespace=namespace))


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    made = make_place(request.param, request, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def store(place: Place) -> CheckpointStore:
    return place.open()


def new_run(run_id: str = "run-1", **more: Any) -> NewRun:
    fields: dict[str, Any] = {
        "graph": "app:graph",
        "fingerprint": "f1",
        "correlation_id": "c1",
        "state": '{"x":1}',
        **more,
    }
    return NewRun(run_id=run_id, schema_version="v1", code_version="1.0", **fields)


def report(index: int = 0, *, generation: int = 0, fan_out: FanOutKey = FAN_OUT, **more) -> Report:
    told = {
        "slot": Slot(fan_out.id, index, generation),
        "outcome": Outcome.SUCCEEDED,
        "token": "t" * 32,
        "delivery": 1,
        "worker": "host:worker",
        "invocation_id": "run-1",
        "started_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "duration_seconds": 0.125,
        "partial": json.dumps({"out": index}),
    }
    return Report(**{**told, **more})


def contribution(index: int = 0, **more) -> SlotRow:
    return SlotRow(report(index, **more))


def error_row(index: int = 0, **more) -> SlotRow:
    told = {"outcome": Outcome.FAILED, "partial": None, "error": FAILURE, **more}
    return SlotRow(report(index, **told), is_contribution=False)


def fan_out_row(key: FanOutKey = FAN_OUT, count: int = 3, **more) -> FanOutRow:
    return FanOutRow(key=key, instance_count=count, item_hashes=bytes(range(8)) * count, position=1, **more)


def step(position: int = 1, **more) -> Step:
    return Step(position=position, **{"namespace": (), "node": "a", "state": '{"x":2}', "step": position - 1, **more})


async def owned(store: CheckpointStore, run_id: str = "run-1", *, lease: timedelta = LONG) -> Ownership:
    await store.create(new_run(run_id))
    return await store.acquire(run_id, "owner-1", invocation_id=run_id, lease=lease)


async def fill(store: CheckpointStore) -> Ownership:
    """A run with something of everything."""
    ownership = await owned(store)
    await store.save_step(ownership, step())
    await store.open_fan_out(ownership, fan_out_row(item_keys=("a", "b", "c")))
    await store.record(ownership, [contribution(0), contribution(0, generation=1), error_row(1)])
    await store.record_losses(ownership, [Loss(Slot(FAN_OUT.id, 2), "w", 1, True)])
    return ownership


def everything_inside() -> InnerRows:
    return InnerRows(fan_outs=[fan_out_row()], steps=[step()], slots=[contribution()])


async def reports_of(store: CheckpointStore, **span) -> list[Report]:
    return [row.report async for row in store.slots("run-1", FAN_OUT.id, **span)]


async def errors_of(store: CheckpointStore) -> list[Report]:
    return [row.report async for row in store.errors("run-1", FAN_OUT.id)]


def is_recent(time: datetime | None) -> bool:
    return time is not None and abs(datetime.now(UTC) - time) < timedelta(minutes=1)
