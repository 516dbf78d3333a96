"""Where a run stands, as people are shown it."""

from datetime import UTC, datetime

import pytest
from rich.console import Console

from orchestrator.checkpoint.row import Run, RunStatus
from rollforward.cli.instance import STATES
from rollforward.cli.standing import Standing
from rollforward.cli.status import drawn

RUN = Run(
    run_id="one",
    graph="numbers",
    fingerprint="f",
    correlation_id="c",
    status=RunStatus.RUNNING,
    epoch=1,
    invocation_id="one",
    created_at=datetime(2026, 11, 21, tzinfo=UTC),
)


def shown(*losses: int) -> str:
    counts = dict.fromkeys(STATES, 0)
    fan_outs = [{"fan_out": "all", "total": 3, "counts": counts, "losses": count} for count in losses]
    seen = Standing(run=RUN, total=3, recorded=0, counts=counts, fan_outs=fan_outs, rate_per_s=0.0, problems=())
    console = Console(width=160)
    with console.capture() as captured:
        console.print(drawn(seen))
    return captured.get()


@pytest.mark.parametrize(
    ("losses", "told"), [((1,), "1 delivery ended with the worker"), ((2, 1), "3 deliveries ended with the worker")]
)
def test_lost_deliveries_are_told(losses, told):
    assert told in shown(*losses)


def test_where_no_delivery_was_lost_nothing_is_said_of_it():
    assert "losses" not in shown(0)
