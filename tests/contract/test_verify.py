"""A record that was damaged does not add up, whatever was done to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Connection, text

from backends.checkpointers.redis.store import RedisStore
from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.store import SqlStore
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import FanOutRow, Loss, NewRun, Ownership, RunStatus, SlotRow, Step
from orchestrator.checkpoint.verify import verify
from orchestrator.error_record import ErrorRecord
from orchestrator.fan_out.fold import Fold, fold_hash
from orchestrator.identity import EnclosingInstance, FanOutKey, Slot
from orchestrator.report import Outcome, Report

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


@dataclass(frozen=True)
class Damage:
    """What is done to a record behind the store's back: in SQL, and the same in Redis."""

    sql: str
    redis: Callable[["RedisRecord"], object]

    def __str__(self) -> str:
        return self.sql


class RedisRecord:
    """The keys of the one run, as a hand that damages them finds them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._run = f"{NAMESPACE}:cp:{{r}}:"

    def drop_slot(self, index: int) -> None:
        assert self._client.hdel(f"{self._run}slots:{FILES.id}", f"{index}:0")

    def change_slot(self, index: int, old: str, new: str, *, to: int | None = None) -> None:
        """Rewrite a part of a contribution, and move it to another index where one is given."""
        kept = self._kept(f"slots:{FILES.id}", f"{index}:0")
        assert old in kept
        self._client.hset(f"{self._run}slots:{FILES.id}", f"{index if to is None else to}:0", kept.replace(old, new))
        self._client.hset(f"{self._run}tally:{FILES.id}", "stop", 1 + max(to or 0, COUNT))

    def change_fan_out(self, part: str, old: str, new: str) -> None:
        kept = self._kept("fan_outs", f"{FILES.id}{part}")
        assert old in kept
        self._client.hset(f"{self._run}fan_outs", f"{FILES.id}{part}", kept.replace(old, new))

    def drop_fan_out(self, *parts: str) -> None:
        assert self._client.hdel(f"{self._run}fan_outs", *(f"{FILES.id}{part}" for part in parts)) == len(parts)

    def copy_slot(self, index: int, to: int) -> None:
        self.change_slot(index, f",{index},0]", f",{to},0]", to=to)

    def move_slot(self, index: int, to: int) -> None:
        self.copy_slot(index, to)
        self.drop_slot(index)

    def _kept(self, part: str, field: str) -> str:
        value: Any = self._client.hget(f"{self._run}{part}", field)
        return str(value.decode())


@dataclass
class Kept:
    """A store, and how it is damaged behind its back."""

    store: CheckpointStore
    url: str

    def damage(self, done: Damage) -> None:
        if self.url.startswith("redis"):
            with redis.Redis.from_url(self.url) as client:
                done.redis(RedisRecord(client))
            return

        def run(connection: Connection) -> int:
            return connection.execute(text(done.sql)).rowcount

        database = Database(self.url)
        try:
            assert database.write(run) > 0, "nothing was damaged"
        finally:
            database.close()

    async def problems(self) -> list[str]:
        verification = await verify(self.store, "r", has_succeeded=True)
        assert not verification.ok
        assert verification.to_json()["problems"] == list(verification.problems)
        return [*(told for fan_out in verification.fan_outs for told in fan_out.problems), *verification.problems]


@asynccontextmanager
async def closing(store: CheckpointStore) -> AsyncIterator[CheckpointStore]:
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    url = (
        f"sqlite:///{tmp_path}/state.db"
        if request.param == "sqlite"
        else request.getfixturevalue({"postgresql": "postgres_url", "redis": "redis_url"}[request.param])
    )
    kind = RedisStore if request.param == "redis" else SqlStore
    async with closing(kind(url, namespace=NAMESPACE)) as store:
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


FOLD = fold_of(REPORTS)
COLUMNS = (
    "run, fan_out, generation, outcome, delivery, attempts, token, worker, invocation_id, started_at, "
    "duration_seconds, recorded_at, partial"
)
DAMAGES = [
    (
        Damage("DELETE FROM proof_slots WHERE idx = 3", lambda kept: kept.drop_slot(3)),
        "1 of 5 instances are not recorded",
    ),
    (
        Damage(
            "UPDATE proof_slots SET partial = '{\"n\": 7}' WHERE idx = 3",
            lambda kept: kept.change_slot(3, '\\"n\\": 3', '\\"n\\": 7'),
        ),
        "not those that fan-in folded",
    ),
    (
        Damage(
            "UPDATE proof_slots SET outcome = 'succeeded' WHERE idx = 1",
            lambda kept: kept.change_slot(1, '"outcome":"failed"', '"outcome":"succeeded"'),
        ),
        "not those that fan-in folded",
    ),
    (
        Damage(
            "UPDATE proof_slots SET idx = 9 WHERE idx = 4",
            lambda kept: kept.move_slot(4, 9),
        ),
        "one too many",
    ),
    (
        Damage(
            f"INSERT INTO proof_slots (idx, {COLUMNS}) SELECT 77, {COLUMNS} FROM proof_slots WHERE idx = 0",
            lambda kept: kept.copy_slot(0, 77),
        ),
        "1 contributions are one too many",
    ),
    (
        Damage(
            "UPDATE proof_fan_outs SET fold_hash = 'f00'",
            lambda kept: kept.change_fan_out(":fold", FOLD.hash, "f00"),
        ),
        "not those that fan-in folded",
    ),
    (
        Damage("UPDATE proof_fan_outs SET fold_count = 6", lambda kept: kept.change_fan_out(":fold", "5 ", "6 ")),
        "folded 6 contributions, 5 are recorded",
    ),
    (
        Damage(
            "UPDATE proof_fan_outs SET fold_count = NULL, fold_hash = NULL", lambda kept: kept.drop_fan_out(":fold")
        ),
        "what fan-in folded is not kept",
    ),
    (
        Damage(
            "UPDATE proof_fan_outs SET instance_count = 4",
            lambda kept: kept.change_fan_out("", '"instance_count":5', '"instance_count":4'),
        ),
        "one too many",
    ),
    (
        Damage(
            "UPDATE proof_fan_outs SET instance_count = 6",
            lambda kept: kept.change_fan_out("", '"instance_count":5', '"instance_count":6'),
        ),
        "1 of 6 instances are not recorded",
    ),
    (
        Damage("DELETE FROM proof_fan_outs", lambda kept: kept.drop_fan_out("", ":hashes", ":fold")),
        "step 1 (node files) folded 5 contributions of a fan-out that is not kept any more",
    ),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[str(damage)[:60] for damage, _ in DAMAGES])
async def test_damage_is_found(kept, damage, said):
    kept.damage(damage)
    assert any(said in problem for problem in await kept.problems())


async def test_a_fold_that_was_changed_with_everything_it_folded_is_found_by_its_step(kept):
    """Whoever changes a contribution and computes the fold anew has not changed the step that wrote it."""
    changed = replace(REPORTS[3], partial='{"n": 7}')
    forged = fold_of([*REPORTS[:3], changed, REPORTS[4]])
    kept.damage(DAMAGES[1][0])
    kept.damage(
        Damage(
            f"UPDATE proof_fan_outs SET fold_hash = '{forged.hash}'",
            lambda record: record.change_fan_out(":fold", FOLD.hash, forged.hash),
        )
    )
    assert await kept.problems() == ["step 1 (node files) folded something else than its fan-out keeps"]


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


async def test_a_fan_out_whose_failure_was_isolated_owes_nothing(store):
    own = await own_new_run(store)
    await store.open_fan_out(own, row(FILES, COUNT))
    await store.record(own, [SlotRow(report(0))])
    await finish(store, own)
    (counted,) = (await verify(store, "r", has_succeeded=True)).fan_outs
    assert (counted.ok, counted.superseded) == (True, True)


async def test_a_fan_out_inside_an_instance_that_goes_on_still_owes_what_is_missing(store):
    own = await own_new_run(store)
    inner = FanOutKey(("files",), "pages", FILES.enclosing(0))
    await store.open_fan_out(own, row(FILES, 1))
    await store.open_fan_out(own, row(inner, 3))
    verification = await verify(store, "r")
    assert [(one.missing, one.superseded) for one in verification.fan_outs] == [(1, False), (3, False)]
