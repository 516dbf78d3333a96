"""The contract of ledgers, each end under the Redis user that a deployment gives it."""

from collections.abc import AsyncIterator

import pytest

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from orchestrator.ledger.claim import Reported
from orchestrator.ledger.view import QueuedItem
from orchestrator.report import DEFAULT_PAYLOAD_BYTES
from tests.contract.ledger_case import EPOCH, MAX_BYTES, RUN, Clock, LedgerCase, slot
from tests.contract.test_ledger import *  # noqa: F403 - all that it promises holds under these users as well
from tests.contract.test_ledger_of_orchestrator import *  # noqa: F403 - the same
from tests.contract.test_ledger_progress import *  # noqa: F403 - the same
from tests.security.users import GuardedRedis

pytestmark = pytest.mark.usefixtures("emptied")

LARGEST = DEFAULT_PAYLOAD_BYTES


@pytest.fixture
async def case(guarded: GuardedRedis) -> AsyncIterator[LedgerCase]:
    clock = Clock()
    worker = RedisWorkerLedger(guarded.url_of("worker"), now=clock, max_bytes=MAX_BYTES)
    orchestrator = RedisLedger(guarded.url_of("orchestrator"), now=clock)
    yield LedgerCase(worker, orchestrator, clock)
    await orchestrator.close_connections()
    worker.close()


@pytest.mark.parametrize("awkward", ['\\"', "\u00e9"], ids=["quotes", "other letters"])
async def test_the_largest_item_and_the_largest_result_pass(guarded: GuardedRedis, awkward: str) -> None:
    text = awkward * (LARGEST // len(awkward.encode()) - 1)
    worker = RedisWorkerLedger(guarded.url_of("worker"), max_bytes=LARGEST)
    orchestrator = RedisLedger(guarded.url_of("orchestrator"))
    case = LedgerCase(worker, orchestrator)
    await case.open()
    items = [QueuedItem(slot(0), f'"{text}"'.encode())]
    await orchestrator.queue(RUN, EPOCH, items, claim_deadline_seconds=30)
    assert case.claim(slot(0)).item == items[0].item
    assert case.report(slot(0), partial=f'"{text}"') is Reported.OK
    (report,) = await case.reports()
    assert report.partial == f'"{text}"'
    worker.close()
    await orchestrator.close_connections()
