"""Who is told what."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.observers.event import NODE_PHASES, Event, Phase

Observer = Callable[[Event], Awaitable[None]]
"""`async (event) -> None`; what it raises is logged, and disturbs neither the run nor other observers."""


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """An observer and the phases that it is told of; caught failures are told to whoever is told of nodes."""

    observer: Observer
    phases: frozenset[Phase] = NODE_PHASES

    @classmethod
    def of(cls, observer: Observer, phases: Iterable[Phase | str] | None = None) -> "Subscription":
        """Subscribe to these phases; by default to the observer's own `phases`.

        One that has no such attribute is told of the start and the end of every attempt.

        Raises:
            ValueError: no phase at all, or one that there is not.
        """
        wanted = getattr(observer, "phases", NODE_PHASES) if phases is None else phases
        asked = frozenset(Phase(phase) for phase in wanted)
        if not asked and phases is not None:
            raise ValueError(f"an observer of no phase is never told anything; pass some of {', '.join(Phase)}")
        return cls(observer, asked)

    def wants(self, event: Event) -> bool:
        return not self.phases.isdisjoint(event.phases)


class RemoveHandle:
    """Takes an observer off the graph that it was attached to."""

    def __init__(self, attached: Sequence[tuple[list[Any], Any]]) -> None:
        self._attached = attached

    def remove(self) -> None:
        """Tell it nothing of later invocations; those under way go on telling it. Once more does nothing."""
        for where, one in self._attached:
            if one in where:
                where.remove(one)
        self._attached = ()
