"""Whether a process that was written down still lives."""

from collections.abc import Mapping

import psutil

from orchestrator.ledger.owner import Owner
from workers.process import is_alive, started_ms, this_owner

ProcessFacts = Mapping[str, int]
"""A `pid` and when it started, in `started_ms`: together they name one process of this host, also after pids repeat."""


def is_dead(owner: str) -> bool:
    """Whether the process of an owner text is known to be gone; false where it is elsewhere or cannot be told."""
    try:
        parsed = Owner.parse(owner)
    except ValueError:
        return False
    return parsed.place == this_owner("anyone").place and not is_alive(parsed)


def facts_of(pid: int) -> dict[str, int]:
    """The facts by which a process is found again.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    return {"pid": pid, "started_ms": started_ms(psutil.Process(pid))}


def is_running(facts: ProcessFacts | None) -> bool:
    """Whether the process of these facts lives."""
    if not facts:
        return False
    return is_alive(Owner("", "", "", "", facts["pid"], facts["started_ms"]))
