"""The one task that Celery knows of."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

from orchestrator.report import Outcome, Report
from workers.delivery import deliver
from workers.message import MessageRefused
from workers.metering import Metering
from workers.runtime import CurrentRuntime
from workers.settings import Settings

logger = logging.getLogger(__name__)

TASK_NAME = "rollforward.run_instance"


class InstanceFailed(Exception):
    """An instance failed and its report is stored; raised for those who watch Celery only."""


def register(app: Celery, settings: Settings, metering: Metering | None = None) -> CurrentRuntime:
    """Register the task that runs the instances of a message; give what it runs them with."""
    current = CurrentRuntime(settings, metering)

    def run_instance(self: Any, text: str) -> None:
        """Verify, claim, run and report; whatever the user's code does has become a report by then."""
        # The pool's clock for the hard limit runs by now, also while this process makes itself ready.
        began = time.monotonic()
        try:
            _refuse_canvas(self.request)
            reports = deliver(text, current.of(self.request.hostname), began=began)
        except MessageRefused as error:
            logger.warning("message refused", extra={"reason": error.reason})
            raise
        _show_failure(reports)

    app.task(
        run_instance,
        bind=True,
        Request="workers.refusal:CountingRequest",
        name=TASK_NAME,
        shared=False,
        acks_late=True,
        ignore_result=True,
        max_retries=0,
        throws=(InstanceFailed, MessageRefused),
    )
    return current


def _refuse_canvas(request: Any) -> None:
    """Refuse a message that would have Celery call other tasks; nothing of them is called."""
    named = [name for name in ("callbacks", "errbacks", "chain", "chord") if getattr(request, name, None)]
    for name in named:
        setattr(request, name, None)
    if named:
        raise MessageRefused(f"a message of ours has no {', '.join(named)}")


def _show_failure(reports: Sequence[Report]) -> None:
    for report in reports:
        if report.outcome is Outcome.FAILED and report.error is not None:
            # No more than the kind of error: its message may hold what the item holds.
            raise InstanceFailed(f"instance {report.slot.index} failed: {report.error.category or report.error.type}")
