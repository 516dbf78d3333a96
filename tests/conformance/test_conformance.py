"""The fixtures of the conformance suite, one test a case."""

import asyncio
from contextlib import AsyncExitStack

from tests.conformance.document import Case
from tests.conformance.judging import judge
from tests.conformance.running import MakeLane, Player


async def test_a_graph_means_what_the_fixture_says(case: Case, make_lane: MakeLane | None):
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        judge(await Player(case, stack, make_lane).play())
