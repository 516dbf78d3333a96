"""The parts of one instance's way, each alone: publish, claim and report, record."""

import asyncio
import secrets
import time
from datetime import UTC, datetime, timedelta

from backends.opening import open_store
from benchmarks.noop import graph
from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import FanOutRow, NewRun, SlotRow
from orchestrator.execution.executor import Hint
from orchestrator.identity import FanOutKey, Slot
from orchestrator.ledger.view import Opening, QueuedItem
from orchestrator.report import Outcome, Report
from rollforward.assembly import assembled
from workers.opening import open_worker_ledger
from workers.settings import Settings

RUN = "parts"
KEY = FanOutKey((), "numbers")
BATCH = 100


def parts(settings: Settings, count: int) -> dict[str, object]:
    """Microseconds an instance of each part."""
    return {
        "instances": count,
        "publish_us": asyncio.run(_publish(settings, count)),
        "claim_and_report_us": asyncio.run(_claim_and_report(settings, count)),
        "record_us": asyncio.run(_record(settings, count)),
    }


async def _publish(settings: Settings, count: int) -> float:
    async with assembled(settings, "celery") as assembly:
        hints = [
            Hint(
                run_id=RUN,
                fan_out=KEY.id,
                index=index,
                generation=0,
                graph=graph.name,
                fingerprint=graph.fingerprint,
                label="bench/numbers",
            )
            for index in range(count)
        ]
        await assembly.lane.executor.dispatch(hints[:BATCH])
        begun = time.perf_counter()
        for at in range(0, count, BATCH):
            await assembly.lane.executor.dispatch(hints[at : at + BATCH])
        return _each(begun, count)


async def _claim_and_report(settings: Settings, count: int) -> float:
    async with assembled(settings, "celery") as assembly:
        ledger, slots = assembly.lane.ledger, [Slot(KEY.id, index) for index in range(count)]
        await ledger.open(RUN, 1, Opening(KEY.id, Bitmap(count), b"{}", "hash"))
        for at in range(0, count, BATCH):
            items = [QueuedItem(slot, b'{"number":1}') for slot in slots[at : at + BATCH]]
            await ledger.queue(RUN, 1, items, claim_deadline_seconds=600)
    worker = open_worker_ledger(settings)
    try:
        begun = time.perf_counter()
        for slot in slots:
            token = secrets.token_hex(16)
            worker.claim(RUN, [slot], owner="here:boot:ns:bench:1:1", token=token, ttl_seconds=600)
            worker.report(RUN, [_report(slot, token)])
        return _each(begun, count)
    finally:
        worker.close()


async def _record(settings: Settings, count: int) -> float:
    store = open_store(settings.checkpoint_url, namespace=settings.namespace)
    try:
        await store.create(NewRun(run_id=RUN, graph="bench", fingerprint="f", correlation_id="c", state="{}"))
        own = await store.acquire(RUN, "me", invocation_id=RUN, lease=timedelta(minutes=10))
        await store.open_fan_out(own, FanOutRow(key=KEY, instance_count=count, item_hashes=b""))
        rows = [SlotRow(_report(Slot(KEY.id, index), "token")) for index in range(count)]
        begun = time.perf_counter()
        for at in range(0, count, BATCH):
            await store.record(own, rows[at : at + BATCH])
        return _each(begun, count)
    finally:
        await store.close()


def _report(slot: Slot, token: str) -> Report:
    return Report(
        slot=slot,
        outcome=Outcome.SUCCEEDED,
        token=token,
        delivery=1,
        worker="bench@here",
        invocation_id=RUN,
        started_at=datetime.now(UTC),
        duration_seconds=0.001,
        partial='{"result":1}',
    )


def _each(begun: float, count: int) -> float:
    return round((time.perf_counter() - begun) / count * 1e6, 1)
