"""Both ends of one ledger, with a clock that a test turns."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import pytest

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from orchestrator.bitmap import Bitmap
from orchestrator.identity import Slot
from orchestrator.ledger.claim import ClaimAnswer, Claimed, Held, Verdict
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.protocol import LedgerReader, OrchestratorLedger, WorkerLedger, WorkerRegistry
from orchestrator.ledger.view import Opening, QueueAnswer, QueuedItem
from orchestrator.report import Outcome, Report

RUN, FAN_OUT, EPOCH = "run-1", "fan-out-1", 3
MAX_BYTES = 100


class WorkerEnd(WorkerLedger, WorkerRegistry, Protocol):
    pass


class OrchestratorEnd(OrchestratorLedger, LedgerReader, Protocol):
    pass


def slot(index: int, generation: int = 0) -> Slot:
    return Slot(FAN_OUT, index, generation)


def owner(worker: str = "w1", pid: int = 1) -> str:
    return f"host:boot:ns:{worker}:{pid}:1000"


def other_opening() -> Opening:
    """A second fan-out of the run, with nothing recorded."""
    return Opening("fan-out-2", Bitmap(4), b"other brief", "other")


def report_of(where: Slot, token: str = "t1", *, partial: str = "{}", delivery: int = 1) -> Report:
    return Report(
        slot=where,
        outcome=Outcome.SUCCEEDED,
        token=token,
        delivery=delivery,
        worker="w1",
        invocation_id="i1",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_seconds=0.5,
        partial=partial,
    )


@dataclass
class Clock:
    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class LedgerCase:
    worker: WorkerEnd
    orchestrator: OrchestratorEnd
    clock: Clock = field(default_factory=Clock)

    async def open(self, *recorded: int, epoch: int = EPOCH, size: int = 20, briefing: bytes = b"brief") -> None:
        opening = Opening(FAN_OUT, Bitmap(size, recorded), briefing, "hash")
        await self.orchestrator.open(RUN, epoch, opening)

    async def queue(self, *slots: Slot, deadline: float = 30.0) -> list[QueueAnswer]:
        items = [QueuedItem(one, f"item {one.index}".encode()) for one in slots]
        return await self.orchestrator.queue(RUN, EPOCH, items, claim_deadline_seconds=deadline)

    async def opened(self, *slots: Slot, size: int = 20) -> None:
        await self.open(size=size)
        await self.queue(*slots)

    def ask(self, *slots: Slot, token: str = "t1", by: str | None = None, ttl: float = 15.0) -> list[ClaimAnswer]:
        return self.worker.claim(RUN, slots, owner=by or owner(), token=token, ttl_seconds=ttl)

    def verdict(self, where: Slot, token: str = "t1") -> Verdict:
        return self.ask(where, token=token)[0].verdict

    def claim(self, where: Slot, token: str = "t1", by: str | None = None) -> Claimed:
        claimed = self.ask(where, token=token, by=by)[0].claimed
        assert claimed is not None
        return claimed

    def beat(self, where: Slot, token: str = "t1"):
        return self.worker.beat(RUN, [Held(where, token)], ttl_seconds=15.0)[0]

    def report(self, where: Slot, token: str = "t1", *, partial: str = "{}"):
        return self.worker.report(RUN, [report_of(where, token, partial=partial)])[0]

    async def reports(self, wait: float = 0.0, *, of: Sequence[str] = (FAN_OUT,)) -> list[Report]:
        return await self.orchestrator.reports(RUN, of, wait_seconds=wait)

    async def in_other(self, *indexes: int) -> list[Slot]:
        """Slots of a second fan-out of the run, queued and claimed."""
        await self.orchestrator.open(RUN, EPOCH, other_opening())
        slots = [Slot("fan-out-2", index) for index in indexes]
        items = [QueuedItem(one, b"") for one in slots]
        await self.orchestrator.queue(RUN, EPOCH, items, claim_deadline_seconds=30)
        self.ask(*slots, by=owner("w2"))
        return slots

    async def close(self, *slots: Slot) -> None:
        await self.orchestrator.close(RUN, EPOCH, slots)

    async def sweep(self, *slots: Slot):
        return await self.orchestrator.sweep(RUN, EPOCH, slots)


def memory_case() -> LedgerCase:
    clock = Clock()
    ledger = MemoryLedger(clock=clock, max_bytes=MAX_BYTES)
    return LedgerCase(ledger, ledger, clock)


async def redis_case(url: str) -> AsyncIterator[LedgerCase]:
    clock = Clock()
    worker = RedisWorkerLedger(url, now=clock, max_bytes=MAX_BYTES)
    orchestrator = RedisLedger(url, now=clock)
    yield LedgerCase(worker, orchestrator, clock)
    await orchestrator.close_connections()
    worker.close()


def every_verb(case: LedgerCase, epoch: int, where: Sequence[Slot]):
    """Each call of an orchestrator that needs the run to be its own."""
    items = [QueuedItem(one, b"item") for one in where]
    ledger = case.orchestrator
    return {
        "queue": lambda: ledger.queue(RUN, epoch, items, claim_deadline_seconds=30),
        "close": lambda: ledger.close(RUN, epoch, where),
        "reset": lambda: ledger.reset(RUN, epoch, where),
        "sweep": lambda: ledger.sweep(RUN, epoch, where),
        "cancel": lambda: ledger.cancel(RUN, epoch),
        "cancel a fan-out": lambda: ledger.cancel(RUN, epoch, fan_out=FAN_OUT),
    }


VERBS = [pytest.param(name, id=name) for name in ("queue", "close", "reset", "sweep", "cancel", "cancel a fan-out")]
