"""What tells one execution of a node from every other in a run."""

from dataclasses import dataclass

from orchestrator.context import current_attempt_index
from orchestrator.identity import FanOutKey, Lineage
from orchestrator.observers.site import current_site

Instance = tuple[str, int]
"""The id of an entry of a fan-out, and an index."""

Place = tuple[tuple[str, ...], str]
"""A node's namespace and its name."""

ENTRY = "s0"
"""The node that every instance of a plan begins with."""


@dataclass(frozen=True)
class Execution:
    """One try of a node's function."""

    place: Place
    lineage: Lineage
    attempt_index: int = 0

    @property
    def instances(self) -> list[Instance]:
        """The enclosing instances, outermost first."""
        lineage = self.lineage
        keys = [FanOutKey(step.namespace, step.node, lineage[:depth], step.visit) for depth, step in enumerate(lineage)]
        return [(key.id, step.index) for key, step in zip(keys, lineage, strict=True)]

    @property
    def begins_instance(self) -> bool:
        """Whether it is the first thing that its instance does."""
        if not self.lineage or self.attempt_index > 0:
            return False
        innermost = self.lineage[-1]
        return self.place == ((*innermost.namespace, innermost.node), ENTRY)


def this_execution() -> Execution:
    """That of the node whose function asks."""
    site = current_site()
    assert site is not None
    return Execution((site.frame.namespace, site.namespace[-1]), site.frame.lineage, current_attempt_index())
