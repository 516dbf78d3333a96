"""What a report means for its fan-out."""

from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.report import Outcome, Report

if TYPE_CHECKING:
    from orchestrator.graph.node import FanOutNode


class Meaning(Enum):
    """What becomes of a report.

    A contribution is a result for good. An error row keeps the instance in flight: a resume runs it again. A
    leftover is a failure of an invocation that has ended already, or rests on what the record lacks: it is run again at
    once.
    """

    CONTRIBUTION = "contribution"
    ERROR_ROW = "error_row"
    LEFTOVER = "leftover"


def meaning(node: "FanOutNode", report: Report, invocation_id: str) -> Meaning:
    """Decide what becomes of a report that `invocation_id` has found."""
    if report.outcome is Outcome.SUCCEEDED:
        return Meaning.CONTRIBUTION
    if report.outcome is not Outcome.CANCELLED and node.error_policy == "collect":
        return Meaning.CONTRIBUTION
    return Meaning.ERROR_ROW if report.invocation_id == invocation_id else Meaning.LEFTOVER
