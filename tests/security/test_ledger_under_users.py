"""The contract of ledgers, each end under the Redis user that a deployment gives it."""

from collections.abc import AsyncIterator

import pytest

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from tests.contract.ledger_case import MAX_BYTES, Clock, LedgerCase
from tests.contract.test_ledger import *  # noqa: F403 - all that it promises holds under these users as well
from tests.contract.test_ledger_of_orchestrator import *  # noqa: F403 - the same
from tests.contract.test_ledger_progress import *  # noqa: F403 - the same
from tests.security.users import GuardedRedis

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
async def case(guarded: GuardedRedis) -> AsyncIterator[LedgerCase]:
    clock = Clock()
    worker = RedisWorkerLedger(guarded.url_of("worker"), now=clock, max_bytes=MAX_BYTES)
    orchestrator = RedisLedger(guarded.url_of("orchestrator"), now=clock)
    yield LedgerCase(worker, orchestrator, clock)
    await orchestrator.close_connections()
    worker.close()
