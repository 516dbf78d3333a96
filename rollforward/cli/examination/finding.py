"""What a check comes to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import RollforwardError
from workers.settings import Settings


class Severity(StrEnum):
    """How bad a finding is; the deployment does not hold its promise with a refused one."""

    OK = "ok"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found, and the way out in a sentence where it is not well.

    `check` is a stable name; `subject` is what it looked at where that can be several: a role of Redis, a worker, a
    graph.
    """

    check: str
    subject: str = ""
    severity: Severity
    found: str
    way_out: str | None = None


Check = Callable[[Settings], Iterator[Finding]]


def well(check: str, found: str, *, subject: str = "") -> Finding:
    """Say that nothing is wrong."""
    return Finding(check=check, subject=subject, severity=Severity.OK, found=found)


def warning(check: str, found: str, way_out: str, *, subject: str = "") -> Finding:
    """Say that something costs more than it has to, or may go wrong."""
    return Finding(check=check, subject=subject, severity=Severity.WARNING, found=found, way_out=way_out)


def refused(check: str, found: str, way_out: str, *, subject: str = "") -> Finding:
    """Say that something loses work, or that nothing can run."""
    return Finding(check=check, subject=subject, severity=Severity.REFUSED, found=found, way_out=way_out)


def refused_by(check: str, error: RollforwardError, *, subject: str = "") -> Finding:
    """Say that an error was met; ours end with what to do."""
    found, _, way_out = str(error).rpartition("; ")
    return refused(check, found or way_out, way_out, subject=subject)
