"""What of a fan-out comes next, and what is waited for."""

import asyncio

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import SlotRow
from orchestrator.fan_out.heard import Unheard
from orchestrator.fan_out.plan import make_plan
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.identity import FanOutKey, Slot
from orchestrator.ledger.view import LiveInstance, LiveState
from tests.contract.ledger_case import report_of
from tests.unit.graph_of_numbers import Numbers, numbers_graph
from tests.unit.test_inner import BRIEFING

PLAN = make_plan(numbers_graph().fan_out_at(["squares"]), Numbers(numbers=[3, 5]), FanOutKey((), "squares"))


class Hearing(Unheard):
    """Keeps what it is told to be queued, with its delivery."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def queued(self, index: int, delivery: int) -> None:
        self.told.append((index, delivery))


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


@pytest.mark.parametrize(("is_after_end", "told"), [(False, []), (True, [(1, 1)])])
async def test_what_is_in_flight_is_told_to_be_queued_where_an_ended_invocation_left_it_queued(
    is_after_end: bool, told: list[tuple[int, int]]
):
    heard = Hearing()
    ended = asyncio.get_running_loop().create_future()
    fan_out = OpenFanOut(PLAN, BRIEFING, Bitmap(2), ended, heard=heard, is_after_end=is_after_end)
    first, second = Slot(fan_out.id, 0), Slot(fan_out.id, 1)
    fan_out.announced(
        [LiveInstance(first, LiveState.RUNNING, 1, "w", None), LiveInstance(second, LiveState.QUEUED, 0, None, None)]
    )
    assert fan_out.take(2, 0.0) == [second]
    fan_out.queued(fan_out.item(second, ()))
    assert heard.told == told
