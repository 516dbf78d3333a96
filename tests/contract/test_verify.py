"""A record that was damaged does not add up, whatever was done to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from backends.checkpointers.redis.store import RedisStore
from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.store import SqlStore
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import FanOutRow, Loss, NewRun, Ownership, RunStatus, SlotRow, Step
from orchestrator.checkpoint.verify import verify
from orchestrator.fan_out.fold import Fold, fold_hash
from orchestrator.identity import EnclosingInstance, FanOutKey, Slot
from orchestrator.report import ErrorRecord, Outcome, Report

COUNT = 5
FILES = FanOutKey((), "files")
NAMESPACE = "proof"


def report(index: int, *, key: FanOutKey = FILES, outcome: Outcome = Outcome.SUCCEEDED, delivery: int = 1) -> Report:
    error = None if outcome is Outcome.SUCCEEDED else ErrorRecord("node_exception", "no", "ValueError")
    return Report(
        slot=Slot(key.id, index),
        outcome=outcome,
        token="t",
        delivery=delivery,
        worker="w",
        invocation_id="r",
        started_at=datetime.now(UTC),
        duration_seconds=0.1,
        partial=f'{{"n": {index}}}' if error is None else None,
        error=error,
    )


REPORTS = [
    report(0),
    report(1, outcome=Outcome.FAILED),
    report(2, delivery=3),
    report(3),
    report(4, outcome=Outcome.LOST, delivery=3),
]


def row(key: FanOutKey, count: int) -> FanOutRow:
    return FanOutRow(key=key, instance_count=count, item_hashes=bytes(8 * count))


def fold_of(reports: list[Report]) -> Fold:
    return Fold(reports[0].slot.fan_out, len(reports), fold_hash((one.slot.index, one.hash) for one in reports))


async def own_new_run(store: CheckpointStore) -> Ownership:
    await store.create(NewRun(run_id="r", graph="g", fingerprint="f", correlation_id="c", state="{}"))
    return await store.acquire("r", "o", invocation_id="r", lease=timedelta(minutes=1))


async def finish(store: CheckpointStore, own: Ownership, *folds: Fold) -> None:
    await store.save_step(own, Step(position=1, namespace=(), node="files", state="{}", folds=folds))
    await store.finish(own, RunStatus.SUCCEEDED)


async def keep_finished_run(store: CheckpointStore) -> None:
    own = await own_new_run(store)
    await store.open_fan_out(own, row(FILES, COUNT))
    await store.record(own, [SlotRow(one) for one in REPORTS])
    losses = [(2, 1), (2, 2), (4, 1), (4, 2), (4, 3)]
    await store.record_losses(own, [Loss(Slot(FILES.id, index), "w", delivery, True) for index, delivery in losses])
    await finish(store, own, fold_of(REPORTS))


@dataclass
class Kept:
    """A store on SQL, and how it is damaged behind its back."""

    store: SqlStore
    url: str

    def damage(self, statement: str) -> None:
        def run(connection: Connection) -> int:
            return connection.execute(text(statement)).rowcount

        database = Database(self.url)
        try:
            assert database.write(run) > 0, "nothing was damaged"
        finally:
            database.close()

    async def problems(self) -> list[str]:
        verification = await verify(self.store, "r", has_succeeded=True)
        assert not verification.ok
        return [problem for fan_out in verification.fan_outs for problem in fan_out.problems]


@asynccontextmanager
async def closing(store: CheckpointStore) -> AsyncIterator[CheckpointStore]:
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/state.db" if is_sqlite else request.getfixturevalue("postgres_url")
    store = SqlStore(url, namespace=NAMESPACE)
    async with closing(store):
        await keep_finished_run(store)
        yield Kept(store, url)


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CheckpointStore]:
    makers: dict[str, Callable[[], CheckpointStore]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SqlStore(f"sqlite:///{tmp_path}/state.db", namespace=NAMESPACE),
        "redis": lambda: RedisStore(request.getfixturevalue("redis_url"), namespace=NAMESPACE),
    }
    async with closing(makers[request.param]()) as made:
        yield made


async def test_a_finished_run_adds_up(store):
    await keep_finished_run(store)
    verification = await verify(store, "r", has_succeeded=True)
    assert verification.ok
    (counted,) = verification.to_json()["fan_outs"]
    expected = {"expected": 5, "recorded": 5, "succeeded": 3, "failed": 2, "missing": 0, "duplicates": 0}
    assert expected.items() <= counted.items()


async def test_executions_count_every_delivery_that_the_record_knows_of(store):
    await keep_finished_run(store)
    (counted,) = (await verify(store, "r")).fan_outs
    assert counted.executions == 1 + 1 + 3 + 1 + 3


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM proof_slots WHERE idx = 3", "1 of 5 instances are not recorded"),
        ("UPDATE proof_slots SET partial = '{\"n\": 7}' WHERE idx = 3", "not those that fan-in folded"),
        ("UPDATE proof_slots SET outcome = 'succeeded' WHERE idx = 1", "not those that fan-in folded"),
        ("UPDATE proof_slots SET idx = 9 WHERE idx = 4", "one too many"),
        ("UPDATE proof_fan_outs SET fold_hash = 'f00'", "not those that fan-in folded"),
        ("UPDATE proof_fan_outs SET fold_count = 6", "folded 6 contributions, 5 are recorded"),
        ("UPDATE proof_fan_outs SET fold_count = NULL, fold_hash = NULL", "what fan-in folded is not kept"),
        ("UPDATE proof_fan_outs SET instance_count = 4", "one too many"),
        ("UPDATE proof_fan_outs SET instance_count = 6", "1 of 6 instances are not recorded"),
    ],
)
async def test_damage_is_found(kept, statement, said):
    kept.damage(statement)
    assert any(said in problem for problem in await kept.problems())


async def test_a_slot_beyond_the_count_is_found(kept):
    columns = (
        "run, fan_out, generation, outcome, delivery, attempts, token, worker, invocation_id, started_at, "
        "duration_seconds, recorded_at, partial"
    )
    kept.damage(f"INSERT INTO proof_slots (idx, {columns}) SELECT 77, {columns} FROM proof_slots WHERE idx = 0")
    assert await kept.problems() == ["1 contributions are one too many"]


async def test_an_unfinished_fan_out_does_not_add_up_until_all_is_recorded(store):
    own = await own_new_run(store)
    await store.open_fan_out(own, row(FILES, COUNT))
    await store.record(own, [SlotRow(one) for one in REPORTS[:3]])
    (counted,) = (await verify(store, "r")).fan_outs
    assert (counted.ok, counted.missing) == (False, 2)
    await store.record(own, [SlotRow(one) for one in REPORTS[3:]])
    assert (await verify(store, "r")).ok


async def test_a_later_generation_is_no_duplicate(store):
    own = await own_new_run(store)
    await store.open_fan_out(own, row(FILES, 1))
    first = report(0, outcome=Outcome.FAILED)
    again = Report(**{name: getattr(report(0), name) for name in Report.__slots__} | {"slot": Slot(FILES.id, 0, 1)})
    await store.record(own, [SlotRow(first)])
    await store.record(own, [SlotRow(again)])
    await finish(store, own, fold_of([again]))
    (counted,) = (await verify(store, "r", has_succeeded=True)).fan_outs
    assert (counted.ok, counted.recorded, counted.duplicates) == (True, 1, 0)


async def test_an_entry_that_was_entered_again_owes_nothing(store):
    own = await own_new_run(store)
    again = FanOutKey((), "files", visit=1)
    await store.open_fan_out(own, row(FILES, COUNT))
    await store.open_fan_out(own, row(again, 1))
    await store.record(own, [SlotRow(report(0, key=again))])
    await finish(store, own, fold_of([report(0, key=again)]))
    verification = await verify(store, "r", has_succeeded=True)
    assert verification.ok
    assert [fan_out.superseded for fan_out in verification.fan_outs] == [True, False]


async def test_a_fan_out_inside_a_failed_instance_owes_nothing(store):
    own = await own_new_run(store)
    inner = FanOutKey(("files",), "pages", (EnclosingInstance((), "files", 0),))
    await store.open_fan_out(own, row(FILES, 1))
    await store.open_fan_out(own, row(inner, 3))
    failed = report(0, outcome=Outcome.FAILED)
    await store.record(own, [SlotRow(failed)])
    await finish(store, own, fold_of([failed]))
    assert (await verify(store, "r", has_succeeded=True)).ok
