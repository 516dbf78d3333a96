"""What reports bring for observers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.observers.event import SaveKind
from orchestrator.observers.site import boundary_site
from orchestrator.observers.wire import decode
from orchestrator.report import Report

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame


@dataclass(frozen=True, slots=True)
class ReportedEvents:
    """Passes on the events of one fan-out's instances, each once its instance is recorded.

    `frame` is the fan-out node's, and `state` the one that it was entered with.
    """

    frame: "Frame"
    node: str
    state: Any

    def tell(self, report: Report) -> None:
        """Tell what happened in an instance, in its order, and that its end is durable."""
        emitter = self.frame.emitter
        if not emitter.is_wanted:
            return
        step_of = _numbering(emitter.next_step)
        invoked = {
            "run_id": self.frame.run_id,
            "invocation_id": report.invocation_id,
            "correlation_id": self.frame.correlation_id,
        }
        for text in report.events:
            parents = (*self.frame.parents, self.state)
            event, path = decode(text, self.frame.root, invoked=invoked, parents=parents, step_of=step_of)
            emitter.emit(event, path)
        boundary_site(self.frame.at_instance(self.node, report.slot.index, self.state)).saved(SaveKind.INSTANCE)


def _numbering(next_step: Callable[[], int]) -> Callable[[int], int]:
    known: dict[int, int] = {}

    def step_of(own: int) -> int:
        if own not in known:
            known[own] = next_step()
        return known[own]

    return step_of
