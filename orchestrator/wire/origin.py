"""Where an event that an instance told comes from, as far as the orchestrator knows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.reading import sound

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph


@dataclass(frozen=True, slots=True)
class _Step:
    step: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The graphs from the registered one down to the event's, and the states around the instance, outermost first."""

    graphs: "Sequence[Graph[Any]]"
    parents: Sequence[Any]
    step_of: Callable[[int], int]

    def step(self, own: int) -> int:
        """The orchestrator's number for a step of the instance's."""
        return self.step_of(sound(_Step(own)).step)
