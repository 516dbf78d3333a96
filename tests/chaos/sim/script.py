"""The verbs of one simulation, in the order in which the ledger took them, to be played again on another ledger."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

UNTOLD = frozenset({"usage"})
"""What depends on the machine."""


@dataclass(frozen=True, slots=True)
class Act:
    """A verb, when it was, and what was answered: an error's class where it was refused."""

    at: float
    actor: str
    verb: str
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    answer: Any = None


class Script:
    """What is written while a simulation plays; nothing, where nobody reads it.

    Three acts are no verbs: `wipe`, `snapshot` and `rollback`.
    """

    def __init__(self, now: Callable[[], float], *, is_kept: bool) -> None:
        self.acts: list[Act] = []
        self._now = now
        self._is_kept = is_kept
        self._ledger: Any = None

    def note(
        self, actor: str, verb: str, args: Sequence[Any], named: dict[str, Any], answer: Any, *, ledger: Any = None
    ) -> None:
        """Write an act down. One that was answered by a ledger which is no more can only be played before."""
        if not self._is_kept or verb in UNTOLD or (ledger is not None and ledger is not self._ledger):
            return
        if verb == "reports":
            named = {"wait_seconds": 0}
        self.acts.append(Act(self._now(), actor, verb, deepcopy(tuple(args)), named, answer))

    def begin(self, ledger: Any, *, by: str) -> None:
        """Write down that another ledger stands in the place of the one before."""
        self._ledger = ledger
        self.act(by)

    def act(self, what: str) -> None:
        if self._is_kept:
            self.acts.append(Act(self._now(), "world", what))

    def close(self) -> None:
        self._is_kept = False
