"""The fixtures of the conformance suite, one test a case."""

import asyncio
from contextlib import AsyncExitStack

from tests.conformance.document import Case
from tests.conformance.judging import judge
from tests.conformance.running import MakeLane, Played, Player
from tests.conformance.scene import Scene
from tests.conformance.seeding import RUN_ID


async def test_a_graph_means_what_the_fixture_says(case: Case, make_lane: MakeLane | None, stage: Scene):
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        played = await Player(case, stack, make_lane, scene=stage).play()
        judge(played)
        if make_lane is not None:
            assert await workers_of(played) <= {"worker@test"}


async def workers_of(played: Played) -> set[str]:
    """Who reported the instances that the case recorded, but for those that it put into the record itself."""
    if played.store is None:
        return set()
    found: set[str] = set()
    for run_id in {run.run_id for run in played.runs if run.run_id}:
        for row in await played.store.fan_outs(run_id):
            found |= {slot.report.worker async for slot in played.store.slots(run_id, row.id)}
    return found - ({""} if RUN_ID in {run.run_id for run in played.runs} else set())
