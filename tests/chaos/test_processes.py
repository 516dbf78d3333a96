"""A few faults of the process chaos, at short leases; `make chaos` has hundreds at the default ones."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.checkpoint.row import Loss, SlotRow
from orchestrator.identity import Slot
from orchestrator.report import Outcome, Report
from tests.chaos.process.campaign import Campaign
from tests.chaos.process.field import Fault
from tests.chaos.process.history import Execution
from tests.chaos.process.poisoned import wrong_poison, wrong_sound
from tests.chaos.process.schedule import Wave, drawn
from tests.chaos.process.size import SMALL
from tests.chaos.process.snapshot import differences
from tests.chaos.process.verdict import unexplained, wrong_slots, wrong_state

WAVES = (
    Wave(("child", "worker", "frozen", "message"), is_measured=True),
    Wave(("redis",), is_measured=True),
    Wave(("flush", "child"), is_measured=False),
    Wave(("orchestrator",), is_measured=True),
)
PLACE = ("run", 0)
FIRST = Execution(PLACE, pid=11, token="a", began=10.0, stopped=12.0)
SECOND = Execution(PLACE, pid=22, token="b", began=11.0, stopped=13.0)


def recorded(token: str) -> SlotRow:
    report = Report(
        slot=Slot("squares", 0, 0),
        outcome=Outcome.SUCCEEDED,
        token=token,
        delivery=1,
        worker="worker",
        invocation_id="run",
        started_at=datetime.now(UTC),
        duration_seconds=2.0,
        partial='{"square": 0}',
    )
    return SlotRow(report)


def state(**other: Any) -> dict[str, Any]:
    return {"squares": [0, 1, 4], "errors": [{"fan_out_index": "3"}], "total": 5, **other}


@pytest.mark.timeout(180)
async def test_nothing_is_lost_or_recorded_twice_whatever_dies(tmp_path):
    campaign = Campaign(WAVES, size=SMALL, seed=1)
    await campaign.play(tmp_path, None)
    assert campaign.verdict.wrong == []
    assert (campaign.verdict.lost, campaign.verdict.duplicated, campaign.verdict.hung) == (0, 0, 0)
    kinds = {kind for wave in WAVES for kind in wave.kinds}
    assert {fault.kind for fault in campaign.faults if fault.detected is not None} == kinds
    assert campaign.verdict.wasted >= 3


def test_an_execution_that_no_fault_made_void_is_not_followed_by_another():
    assert list(unexplained({0: [FIRST]}, [], {})) == []
    assert len(list(unexplained({0: [FIRST, SECOND]}, [], {}))) == 1


@pytest.mark.parametrize(
    ("fault", "is_explained"),
    [
        (Fault(kind="frozen", at=10.5, until=20.0, pids=frozenset({11})), True),
        (Fault(kind="frozen", at=10.5, until=20.0, pids=frozenset({22})), False),
        (Fault(kind="frozen", at=11.5, until=20.0, pids=frozenset({11})), False),
        (Fault(kind="flush", at=10.5, until=10.5, is_global=True), True),
        (Fault(kind="flush", at=5.0, until=9.0, is_global=True), False),
        (Fault(kind="flush", at=14.0, until=15.0, is_global=True), False),
    ],
)
def test_a_fault_explains_what_was_executed_while_it_lasted_and_by_whom_it_hit(fault, is_explained):
    assert (not list(unexplained({0: [FIRST, SECOND]}, [fault], {0: 13.5}))) == is_explained


def test_what_was_recorded_when_the_ledger_was_lost_is_not_executed_again():
    flush = Fault(kind="flush", at=12.5, until=14.0, is_global=True)
    again = Execution(PLACE, pid=22, token="b", began=13.0, stopped=15.0)
    assert list(unexplained({0: [FIRST, again]}, [flush], {0: 15.5})) == []
    assert len(list(unexplained({0: [FIRST, again]}, [flush], {0: 12.1}))) == 1


def test_a_record_is_of_an_execution_that_no_later_claim_has_superseded():
    assert list(wrong_slots([recorded("b")], {0: [FIRST, SECOND]}, [])) == []
    assert len(list(wrong_slots([recorded("a")], {0: [FIRST, SECOND]}, []))) == 1
    assert len(list(wrong_slots([recorded("c")], {0: [FIRST, SECOND]}, []))) == 1


def test_the_result_is_that_of_a_serial_run():
    assert list(wrong_state(state(), 4)) == []
    assert len(list(wrong_state(state(squares=[0, 1, 4, 4]), 4))) == 1
    assert len(list(wrong_state(state(squares=[0, 4, 1]), 4))) == 1
    assert len(list(wrong_state(state(total=9), 4))) == 1
    assert len(list(wrong_state(state(errors=[]), 4))) == 1


def test_a_poison_instance_is_stopped_at_its_limit_and_its_neighbours_are_not_charged():
    lost = {"errors": [{"fan_out_index": "1", "category": "instance_lost"}], "squares": [0]}
    assert list(wrong_poison(2, Counter({0: 1, 1: 3}), lost)) == []
    assert len(list(wrong_poison(2, Counter({0: 1, 1: 4}), lost))) == 1
    assert len(list(wrong_poison(2, Counter({0: 1, 1: 3}), {"errors": []}))) == 1
    assert list(wrong_sound([0], Counter({0: 1}), lost, [])) == []
    assert len(list(wrong_sound([0], Counter({0: 2}), lost, []))) == 1
    assert len(list(wrong_sound([0], Counter({0: 1}), {"squares": []}, []))) == 1
    charged = Loss(Slot("squares", 0, 0), "worker", 1, True)
    assert len(list(wrong_sound([0], Counter({0: 1}), lost, [charged]))) == 1


def test_what_was_recorded_once_is_there_ever_after():
    assert differences({1: "a"}, {1: "a", 2: "b"}) == []
    assert len(differences({1: "a"}, {1: "b"})) == 1
    assert len(differences({1: "a"}, {})) == 1


def test_a_schedule_has_as_many_faults_as_asked_for_and_the_same_for_a_seed():
    waves = drawn(200, 1, has_postgres=True, at_once=2)
    assert sum(len(wave.kinds) for wave in waves) == 200
    assert waves == drawn(200, 1, has_postgres=True, at_once=2)
    assert waves != drawn(200, 2, has_postgres=True, at_once=2)
