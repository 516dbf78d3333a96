"""What of a fan-out comes next, and what is waited for."""

import asyncio

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import SlotRow
from orchestrator.fan_out.plan import make_plan
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.identity import FanOutKey
from tests.contract.ledger_case import report_of
from tests.unit.graph_of_numbers import Numbers, numbers_graph
from tests.unit.test_inner import BRIEFING

PLAN = make_plan(numbers_graph().fan_out_at(["squares"]), Numbers(numbers=[3, 5]), FanOutKey((), "squares"))


async def test_one_that_was_declined_is_sent_again_also_while_a_suspect_waits_to_run_alone():
    fan_out = OpenFanOut(PLAN, BRIEFING, Bitmap(2), asyncio.get_running_loop().create_future())
    suspect, declined = fan_out.take(2, 0.0)
    fan_out.isolate(suspect)
    fan_out.deferred[declined.index] = (5.0, declined)
    assert fan_out.take(2, 4.0) == []
    assert fan_out.take(2, 5.0) == [declined]
    fan_out.note(SlotRow(report_of(declined)))
    assert fan_out.take(2, 6.0) == [suspect]


async def test_a_suspect_that_ends_after_all_does_not_keep_the_next_one_waiting():
    fan_out = OpenFanOut(PLAN, BRIEFING, Bitmap(2), asyncio.get_running_loop().create_future())
    first, second = fan_out.take(2, 0.0)
    for slot in (first, second):
        fan_out.isolate(slot)
    fan_out.note(SlotRow(report_of(first)))
    assert fan_out.take(2, 0.0) == [second]
