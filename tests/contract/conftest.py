"""Every ledger in turn, for the contract's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.ledger_case import LedgerCase, memory_case, redis_case


@pytest.fixture(params=["memory", "redis"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[LedgerCase]:
    """A ledger in memory, then one in Redis."""
    if request.param == "memory":
        yield memory_case()
        return
    async for made in redis_case(request.getfixturevalue("redis_url")):
        yield made
