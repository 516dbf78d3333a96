"""What the record knows of deliveries: where counting goes on, and which losses a failure settles."""

from datetime import UTC, datetime

from orchestrator.checkpoint.row import Loss
from orchestrator.fan_out.deliveries import Deliveries
from orchestrator.identity import Slot
from orchestrator.report import Outcome, Report

FIRST, SECOND = Slot("f", 0), Slot("f", 1)


def lost(slot: Slot, delivery: int, *, is_charged: bool = True) -> Loss:
    return Loss(slot, "w", delivery, is_charged)


def failed(slot: Slot, delivery: int) -> Report:
    return Report(
        slot=slot,
        outcome=Outcome.FAILED,
        token="t",
        delivery=delivery,
        worker="w",
        invocation_id="r",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_seconds=0.5,
    )


def test_counting_goes_on_after_the_latest_delivery_that_is_known():
    deliveries = Deliveries.recorded([lost(FIRST, 2), lost(FIRST, 1), lost(SECOND, 1)], [failed(SECOND, 4)])
    assert deliveries.known == {FIRST: 2, SECOND: 4}
    deliveries.note(lost(FIRST, 3))
    assert deliveries.known[FIRST] == 3


def test_a_failure_settles_the_charged_losses_before_it():
    losses = [lost(FIRST, 1), lost(FIRST, 2, is_charged=False), lost(FIRST, 4), lost(SECOND, 1)]
    deliveries = Deliveries.recorded(losses, [failed(FIRST, 3)])
    assert deliveries.unsettled(FIRST, charged=2) == 1
    assert deliveries.unsettled(SECOND, charged=1) == 1


def test_one_that_was_given_up_settles_the_loss_that_it_was_given_up_for():
    losses = [lost(FIRST, delivery) for delivery in (1, 2, 3)]
    assert Deliveries.recorded(losses, [failed(FIRST, 3)]).unsettled(FIRST, charged=3) == 0
