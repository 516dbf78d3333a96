"""Rows on their way to a store that may be away."""

import asyncio
import logging

import pytest

from orchestrator.errors import CallerError, CheckpointUnavailable
from orchestrator.observers.outbox import Outbox


class Store:
    """Takes rows unless it is away."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.error: Exception | None = None
        self.has_written = asyncio.Event()

    async def write(self, rows) -> None:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.batches.append(list(rows))
        self.has_written.set()

    @property
    def rows(self) -> list[int]:
        return [row for batch in self.batches for row in batch]


@pytest.fixture
def store() -> Store:
    return Store()


def outbox(store: Store, *, every_seconds: float = 0.0, most_waiting: int = 1000) -> Outbox[int]:
    return Outbox(store.write, what="rows", every_seconds=every_seconds, most_waiting=most_waiting)


async def test_rows_are_written_by_themselves_in_batches(store):
    box = outbox(store)
    for row in range(10):
        box.add([row])
    await asyncio.wait_for(store.has_written.wait(), timeout=5)
    assert store.batches == [list(range(10))]


async def test_rows_of_a_store_that_is_away_wait_and_are_written_in_order_once_it_is_back(store, caplog):
    box = outbox(store)
    store.error = CheckpointUnavailable("away")
    box.add([1, 2])
    await box.flush()
    box.add([3])
    await box.flush()
    assert (store.rows, box.health, box.dropped) == ([], "away", 0)
    store.error = None
    await box.flush()
    assert (store.rows, box.health, box.dropped) == ([1, 2, 3], None, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "rows cannot be written, they wait",
        "rows are written again",
    ]


async def test_they_are_tried_again_without_anybody_asking(store):
    box = outbox(store)
    store.error = CheckpointUnavailable("away")
    box.add([1])
    await box.flush()
    store.error = None
    await asyncio.wait_for(store.has_written.wait(), timeout=5)
    assert store.rows == [1]


async def test_the_oldest_are_dropped_when_too_many_wait_and_are_counted_and_said_once(store, caplog):
    box = outbox(store, every_seconds=60, most_waiting=3)
    box.add(range(4))
    box.add([4, 5])
    await box.close()
    assert (store.rows, box.dropped) == ([3, 4, 5], 3)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_what_cannot_be_written_at_the_end_is_counted(store):
    box = outbox(store, every_seconds=60)
    store.error = ValueError("a fault of its own")
    box.add([1, 2])
    await box.close()
    assert (box.dropped, box.health) == (2, "a fault of its own")


async def test_what_a_store_refuses_keeps_nothing_behind_it_from_being_written(store):
    box = outbox(store, every_seconds=60)
    store.error = CallerError("no such character")
    box.add([1])
    await box.flush()
    store.error = None
    box.add([2])
    await box.close()
    assert (store.rows, box.dropped) == ([2], 1)


def test_one_outbox_serves_one_loop_after_the_other(store):
    box = outbox(store, every_seconds=60)

    async def add_and_flush(row: int) -> None:
        box.add([row])
        await box.flush()

    for row in range(3):
        asyncio.run(add_and_flush(row))
    assert store.rows == [0, 1, 2]
