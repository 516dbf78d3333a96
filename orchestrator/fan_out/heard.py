"""Who is told what of a fan-out is durable."""

from collections.abc import Mapping
from typing import Protocol

from orchestrator.checkpoint.row import FanOutRow, Loss, Step
from orchestrator.fan_out.entry import EventsTold
from orchestrator.report import Report


class Heard(Protocol):
    """Takes note of what has come into the record, in its order, and of what becomes of instances; never blocks."""

    def queued(self, index: int, delivery: int) -> None:
        """An instance waits for that delivery."""

    def happened(self, index: int, told: EventsTold) -> None:
        """What happened in an instance."""

    def repeated(self, index: int, told: EventsTold) -> None:
        """What happened in an instance, and was given to an earlier owner of the run, who may have passed it on."""

    def completed(self, step: Step) -> None:
        """A node inside an instance is recorded."""

    def contributed(self, fan_out: FanOutRow, report: Report) -> None:
        """A nested instance is recorded."""

    def ended(self, report: Report) -> None:
        """An instance of the fan-out itself is recorded; its report has the last of its events."""

    def lost(self, loss: Loss) -> None:
        """A delivery of an instance was lost."""

    def stopped(self, deliveries: Mapping[int, int], workers: Mapping[int, str]) -> None:
        """The fan-out was stopped: nothing more comes of these instances, which were queued for these deliveries.

        `workers` had begun some of them, by index.
        """


class Unheard:
    """Nobody listens."""

    def queued(self, _index: int, _delivery: int) -> None:
        return None

    def happened(self, _index: int, _told: EventsTold) -> None:
        return None

    def repeated(self, _index: int, _told: EventsTold) -> None:
        return None

    def completed(self, _step: Step) -> None:
        return None

    def contributed(self, _fan_out: FanOutRow, _report: Report) -> None:
        return None

    def ended(self, _report: Report) -> None:
        return None

    def lost(self, _loss: Loss) -> None:
        return None

    def stopped(self, _deliveries: Mapping[int, int], _workers: Mapping[int, str]) -> None:
        return None
