"""Who is told what of a fan-out is durable."""

from typing import Protocol

from orchestrator.checkpoint.row import Step
from orchestrator.fan_out.entry import EventsTold
from orchestrator.identity import FanOutKey
from orchestrator.report import Report


class Heard(Protocol):
    """Takes note of what has come into the record, in its order; never blocks."""

    def happened(self, index: int, told: EventsTold) -> None:
        """What happened in an instance."""

    def repeated(self, index: int, told: EventsTold) -> None:
        """What happened in an instance, and was given to an earlier owner of the run, who may have passed it on."""

    def completed(self, step: Step) -> None:
        """A node inside an instance is recorded."""

    def contributed(self, fan_out: FanOutKey, report: Report) -> None:
        """A nested instance is recorded."""

    def ended(self, report: Report) -> None:
        """An instance of the fan-out itself is recorded; its report has the last of its events."""


class Unheard:
    """Nobody listens."""

    def happened(self, _index: int, _told: EventsTold) -> None:
        return None

    def repeated(self, _index: int, _told: EventsTold) -> None:
        return None

    def completed(self, _step: Step) -> None:
        return None

    def contributed(self, _fan_out: FanOutKey, _report: Report) -> None:
        return None

    def ended(self, _report: Report) -> None:
        return None
