"""How often instances were handed out and lost, as far as the record knows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.checkpoint.row import Loss
from orchestrator.identity import Slot
from orchestrator.report import Report


@dataclass(slots=True)
class Deliveries:
    """The deliveries of the instances of one fan-out, in all invocations of the run.

    `known` is the number of each one's latest delivery that the record tells of: counting goes on from there, also
    where the ledger was lost. A recorded failure settles the losses before it, so that a resume gives its instance
    all its deliveries again; `settled` is how many charged ones these are.
    """

    known: dict[Slot, int] = field(default_factory=dict)
    settled: Counter[Slot] = field(default_factory=Counter)

    @classmethod
    def recorded(cls, losses: Iterable[Loss], failures: Iterable[Report]) -> "Deliveries":
        """As a resume or a takeover finds them."""
        ended = {report.slot: report.delivery for report in failures}
        deliveries = cls(dict(ended))
        for loss in losses:
            deliveries.note(loss)
            deliveries.settled[loss.slot] += loss.is_charged and loss.delivery <= ended.get(loss.slot, 0)
        return deliveries

    def note(self, loss: Loss) -> None:
        self.known[loss.slot] = max(loss.delivery, self.known.get(loss.slot, 0))

    def unsettled(self, slot: Slot, charged: int) -> int:
        """Of so many charged losses of an instance, those that no failure settles."""
        return charged - self.settled[slot]
