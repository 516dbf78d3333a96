"""What an instance tells of its own states while it runs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.middleware.cause_chain import error_record
from orchestrator.observers.emitter import Collected, Emitter, Path
from orchestrator.observers.event import Event, InstanceEvent, InstanceState, Phase
from orchestrator.observers.instance_place import InstancePlace
from orchestrator.report import Outcome, Report

if TYPE_CHECKING:
    from orchestrator.execution.briefing import Briefing
    from orchestrator.ledger.claim import Claimed

STATES = {
    Outcome.SUCCEEDED: InstanceState.SUCCESS,
    Outcome.FAILED: InstanceState.FAILED,
    Outcome.LOST: InstanceState.FAILED,
    Outcome.CANCELLED: InstanceState.CANCELLED,
}
"""What an instance comes to, as it is told, when its report is recorded."""


@dataclass(slots=True)
class Voice:
    """Tells of one delivery of an instance; says nothing where nobody wants to know."""

    emitter: Emitter
    work: "Claimed"
    briefing: "Briefing"
    worker: str
    first: InstanceEvent | None = None

    def running(self, at: datetime) -> None:
        """It has begun."""
        if self.emitter.wants(Phase.INSTANCE):
            self.first = self._event(InstanceState.RUNNING, at=at, started_at=at)
            self.emitter.emit(self.first, self._path)

    def retrying(self, attempts: int, error: BaseException | None) -> None:
        """So many tries of something in it have begun; `error` is what the one before came to, where that is known."""
        if self.emitter.wants(Phase.INSTANCE):
            why = None if error is None else error_record(error, with_traceback=False)
            again = self._event(
                InstanceState.RETRYING, attempts=attempts, attempt_index=attempts - 1, error=why, at=datetime.now(UTC)
            )
            self.emitter.emit(again, self._path)

    def ended(self, report: Report) -> None:
        """It has ended in a way that nobody records."""
        if self.emitter.wants(Phase.INSTANCE):
            ended = self._event(STATES[report.outcome], at=datetime.now(UTC), **facts_of(report))
            self.emitter.emit(ended, self._path)

    def left(self, collected: Collected) -> list[tuple[Event, Path]]:
        """What is told with the report: that it has begun, the report says by itself."""
        return [told for told in collected.take() if told[0] is not self.first]

    @property
    def _path(self) -> Path:
        return (*self.briefing.fan_out.namespace, self.briefing.fan_out.node)

    def _event(self, state: InstanceState, **facts: object) -> InstanceEvent:
        work = self.work
        place = InstancePlace.of(self.briefing, self._path, self.briefing.levels)
        known = {"key": work.key, "tags": work.tags, "delivery": work.delivery, "worker": self.worker}
        return place.event(work.slot.index, state, **{**known, **facts})


def facts_of(report: Report) -> dict[str, object]:
    """What a report says of how its instance ended."""
    return {
        "attempts": report.attempts,
        "delivery": report.delivery,
        "worker": report.worker,
        "started_at": report.started_at,
        "duration_seconds": report.duration_seconds,
        "error": report.error,
    }
