"""The report of one delivery of an instance."""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from orchestrator.errors import PayloadTooLarge
from orchestrator.execution.briefing import Briefing
from orchestrator.fan_out.fold import Fold
from orchestrator.instance.ending import Ended
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Claimed
from orchestrator.metadata import Metadata
from orchestrator.middleware.cause_chain import error_record
from orchestrator.report import Outcome, Position, Report


@dataclass(frozen=True, slots=True)
class Times:
    """When an instance began, how long it took, and how often it was tried."""

    started_at: datetime
    duration_seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Watch:
    """Begins with an instance."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _began: float = field(default_factory=time.perf_counter)

    def times(self, *, attempts: int) -> Times:
        """Those of an instance that ends now."""
        return Times(self.started_at, time.perf_counter() - self._began, attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What an instance leaves behind beside its contribution; see `Report`."""

    folds: tuple[Fold, ...] = ()
    positions: tuple[Position, ...] = ()
    events: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict)


def report_of(
    work: Claimed, briefing: Briefing, runtime: Runtime, *, ended: Ended, times: Times, trail: Trail | None = None
) -> Report:
    """The report of an instance that has ended."""
    trail = trail or Trail()
    return Report(
        slot=work.slot,
        outcome=ended.outcome,
        token=work.token,
        delivery=work.delivery,
        worker=runtime.worker,
        invocation_id=briefing.invocation_id,
        started_at=times.started_at,
        duration_seconds=times.duration_seconds,
        attempts=times.attempts,
        partial=ended.contribution,
        error=ended.error,
        code_version=runtime.code_version,
        folds=trail.folds,
        positions=trail.positions,
        events=trail.events,
        metadata=trail.metadata,
    )


def never_begun(work: Claimed, briefing: Briefing, runtime: Runtime) -> Report:
    """The report of an instance that was stopped before it began."""
    times = Times(datetime.now(UTC), 0.0, attempts=0)
    return report_of(work, briefing, runtime, ended=Ended(Outcome.CANCELLED), times=times)


def too_large(done: Report, limit_bytes: int) -> Report:
    """What is reported instead of a result that the ledger does not take."""
    error = PayloadTooLarge("result", len((done.partial or "").encode()), limit_bytes)
    return replace(done, outcome=Outcome.FAILED, partial=None, error=error_record(error, with_traceback=False))
