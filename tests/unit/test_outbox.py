"""Rows on their way to a store that may be away."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from backends.telemetry.prometheus import PrometheusMeter
from orchestrator.errors import CallerError, CheckpointUnavailable
from orchestrator.metrics.metric import ROWS_DROPPED
from orchestrator.observers.outbox import Outbox


class Store:
    """Takes rows unless it is away."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.error: BaseException | None = None
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


class Panic(BaseException):
    """What an extension raises that is no Exception."""


async def test_rows_that_a_store_panics_at_wait_as_for_any_other_error(store):
    box, store.error = outbox(store, every_seconds=60), Panic("in the driver")
    box.add([1, 2])
    await box.flush()
    assert (store.rows, box.health) == ([], "rows wait: in the driver")
    store.error = None
    await box.flush()
    assert (store.rows, box.health) == ([1, 2], None)


async def test_rows_are_written_for_all_who_add_and_not_in_the_context_of_the_first():
    place = ContextVar("place", default="nowhere")
    written_in: asyncio.Queue[str] = asyncio.Queue()

    async def write(_rows: Sequence[int]) -> None:
        written_in.put_nowait(place.get())

    box: Outbox[int] = Outbox(write, what="rows", every_seconds=0.0)
    place.set("an instance")
    box.add([1])
    assert await asyncio.wait_for(written_in.get(), timeout=5) == "nowhere"


async def test_rows_of_a_store_that_is_away_wait_and_are_written_in_order_once_it_is_back(store, caplog):
    box = outbox(store)
    store.error = CheckpointUnavailable("away")
    box.add([1, 2])
    await box.flush()
    box.add([3])
    await box.flush()
    assert (store.rows, box.health, box.dropped) == ([], "rows wait: away", 0)
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


async def test_what_is_dropped_is_counted_by_the_meter_too(store):
    meter = PrometheusMeter([ROWS_DROPPED])
    box = outbox(store, every_seconds=60, most_waiting=3)
    box.count_by(meter)
    box.add(range(5))
    assert meter.registry.get_sample_value(ROWS_DROPPED.name, {"rows": "rows"}) == 2
    await box.close()


async def test_what_cannot_be_written_at_the_end_is_counted(store):
    box = outbox(store, every_seconds=60)
    store.error = ValueError("a fault of its own")
    box.add([1, 2])
    await box.close()
    assert (box.dropped, box.health) == (2, "rows wait: a fault of its own")


async def test_of_a_batch_that_a_store_refuses_only_the_rows_at_fault_are_given_up(store):
    at_fault = {0, 77, 998, 999}

    async def write(rows: Sequence[int]) -> None:
        if at_fault & set(rows):
            raise CallerError("no such character")
        await store.write(rows)

    box: Outbox[int] = Outbox(write, what="rows", every_seconds=60)
    box.add(range(1200))
    await box.close()
    assert store.rows == [row for row in range(1200) if row not in at_fault]
    assert box.dropped == len(at_fault)


async def test_a_store_that_is_slower_than_rows_come_is_waited_for_and_one_that_is_away_is_not(store):
    box = outbox(store, every_seconds=60, most_waiting=10)
    for row in range(100):
        box.add([row])
        await box.keep_up()
    await box.flush()
    assert (box.dropped, store.rows) == (0, list(range(100)))
    store.error = CheckpointUnavailable("away")
    for row in range(100, 120):
        box.add([row])
        await asyncio.wait_for(box.keep_up(), timeout=5)
    await box.close()
    assert box.dropped == 20


async def test_what_comes_after_the_end_is_counted_and_said(store, caplog):
    box = outbox(store)
    box.add([1])
    closing = asyncio.create_task(box.close())
    await asyncio.sleep(0)
    box.add([2])
    await closing
    box.add([3])
    assert (store.rows, box.dropped) == ([1], 2)
    assert [record.getMessage() for record in caplog.records] == [
        "rows dropped, they came after close(): await the graph's drain() before it"
    ]


@pytest.mark.parametrize("leave", ["close", "flush"])
async def test_a_write_that_nobody_waits_for_any_more_is_not_done_twice(store, leave):
    is_writing, go_on = asyncio.Event(), asyncio.Event()

    async def write(rows: Sequence[int]) -> None:
        # As a thread does, which goes on whoever leaves.
        store.batches.append(list(rows))
        is_writing.set()
        await go_on.wait()

    box: Outbox[int] = Outbox(write, what="rows", every_seconds=0)
    box.add([1, 2])
    flushing = [asyncio.create_task(box.flush())] if leave == "flush" else []
    await is_writing.wait()
    for one in flushing:
        one.cancel()
    closing = asyncio.create_task(box.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert (store.rows, box.dropped) == ([1, 2], 0)


async def test_many_that_are_dropped_are_said_again_when_they_are_ten_times_as_many(store, caplog):
    box = outbox(store, every_seconds=60, most_waiting=1)
    for row in range(151):
        box.add([row])
    await box.close()
    assert [record.__dict__["count"] for record in caplog.records] == [1, 10, 100]


def test_one_outbox_serves_one_loop_after_the_other(store):
    box = outbox(store, every_seconds=60)

    async def add_and_flush(row: int) -> None:
        box.add([row])
        await box.flush()

    for row in range(3):
        asyncio.run(add_and_flush(row))
    assert store.rows == [0, 1, 2]


def test_a_whole_batch_is_added_after_a_loop_that_ended_while_it_paused(store):
    box: Outbox[int] = Outbox(store.write, what="rows", every_seconds=60, batch_rows=3)

    async def pause() -> None:
        box.add([1])
        await asyncio.sleep(0)

    async def add_the_rest() -> None:
        box.add([2, 3])
        await asyncio.wait_for(store.has_written.wait(), timeout=5)

    asyncio.run(pause())
    asyncio.run(add_the_rest())
    assert store.rows == [1, 2, 3]


class HeldUp(Store):
    """Holds up what another loop writes than the one that it is made in."""

    def __init__(self) -> None:
        super().__init__()
        self.home = asyncio.get_running_loop()
        self.is_held_up = asyncio.Event()
        self.go_on = threading.Event()

    async def write(self, rows: Sequence[int]) -> None:
        if asyncio.get_running_loop() is not self.home:
            self.home.call_soon_threadsafe(self.is_held_up.set)
            await asyncio.to_thread(self.go_on.wait, 5)
        await super().write(rows)


async def test_rows_stay_in_order_where_several_loops_write_them():
    store = HeldUp()
    box = outbox(store, every_seconds=60)
    box.add([1])
    elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(box.flush())))
    await asyncio.wait_for(store.is_held_up.wait(), timeout=5)
    box.add([2])
    here = asyncio.create_task(box.flush())
    await turns()
    assert (store.rows, here.done()) == ([], False)
    store.go_on.set()
    await asyncio.gather(elsewhere, here)
    assert store.rows == [1, 2]
    await box.close()


async def test_whoever_gives_up_waiting_for_another_loop_takes_nothing_from_it():
    store = HeldUp()
    box = outbox(store, every_seconds=60)
    box.add([1])
    elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(box.flush())))
    await asyncio.wait_for(store.is_held_up.wait(), timeout=5)
    here = asyncio.create_task(box.flush())
    await turns()
    here.cancel()
    await asyncio.wait({here})
    store.go_on.set()
    await elsewhere
    await box.close()
    assert store.rows == [1]


async def test_where_the_loop_that_writes_ends_before_its_write_another_goes_on_with_it(store):
    home, has_begun, is_over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def write(rows: Sequence[int]) -> None:
        if asyncio.get_running_loop() is not home:
            home.call_soon_threadsafe(has_begun.set)
            await asyncio.Event().wait()
        await store.write(rows)

    async def begin_and_leave() -> None:
        asyncio.get_running_loop().create_task(box.flush())
        await asyncio.to_thread(is_over.wait, 5)

    box: Outbox[int] = Outbox(write, what="rows", every_seconds=60)
    box.add([1])
    elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(begin_and_leave())))
    await asyncio.wait_for(has_begun.wait(), timeout=5)
    box.add([2])
    here = asyncio.create_task(box.flush())
    await turns()
    is_over.set()
    await asyncio.wait_for(asyncio.gather(elsewhere, here), timeout=10)
    assert store.rows == [1, 2]
    await box.close()


@pytest.mark.parametrize("is_closed", [False, True], ids=["stands still", "is closed"])
def test_a_loop_that_goes_on_no_more_keeps_no_other_from_writing(store, is_closed):
    stopping = asyncio.new_event_loop()
    has_begun = asyncio.Event()

    async def write(rows: Sequence[int]) -> None:
        if asyncio.get_running_loop() is stopping:
            has_begun.set()
            await asyncio.Event().wait()
        await store.write(rows)

    box: Outbox[int] = Outbox(write, what="rows", every_seconds=0)
    stopping.call_soon(box.add, [1])
    stopping.run_until_complete(has_begun.wait())
    if is_closed:
        stopping.close()

    async def add_another() -> None:
        box.add([2])
        await asyncio.wait_for(store.has_written.wait(), timeout=5)

    asyncio.run(add_another())
    assert store.rows == [1, 2]
    if not is_closed:
        for task in asyncio.all_tasks(stopping):
            task.cancel()
        stopping.run_until_complete(asyncio.sleep(0))
        stopping.close()
    asyncio.run(box.close())
    assert store.rows == [1, 2]


async def turns() -> None:
    """Let everything that can go on in this loop do so."""
    for _ in range(20):
        await asyncio.sleep(0)
