"""What tells one instance of one fan-out from every other."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any


@dataclass(frozen=True, slots=True)
class EnclosingInstance:
    """One step of a lineage: an instance, of one entry of an outer fan-out, that something runs inside of."""

    namespace: tuple[str, ...]
    node: str
    index: int
    visit: int = 0

    def to_json(self) -> list[Any]:
        later = [self.visit] if self.visit else []
        return [list(self.namespace), self.node, self.index, *later]

    @classmethod
    def from_json(cls, value: list[Any]) -> "EnclosingInstance":
        namespace, *rest = value
        return cls(tuple(namespace), *rest)


Lineage = tuple[EnclosingInstance, ...]
"""The chain of enclosing instances, outermost first; empty outside any fan-out."""


@dataclass(frozen=True, slots=True)
class FanOutKey:
    """One entry of one fan-out node of a run.

    `namespace` holds the names of the enclosing nodes, without the fan-out's own; `visit` counts the entries of
    that node (a loop's turn, a retry of the whole node), and a resume keeps it.
    """

    namespace: tuple[str, ...]
    node: str
    lineage: Lineage = ()
    visit: int = 0
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        digest = blake2b(json.dumps(self.to_json()).encode(), digest_size=8)
        object.__setattr__(self, "id", digest.hexdigest())

    @property
    def path(self) -> str:
        """The node's name with those around it, as people read it: `outer/files`."""
        return "/".join((*self.namespace, self.node))

    def to_json(self) -> list[Any]:
        return [list(self.namespace), self.node, [step.to_json() for step in self.lineage], self.visit]

    @classmethod
    def from_json(cls, value: list[Any]) -> "FanOutKey":
        namespace, node, lineage, visit = value
        steps = tuple(EnclosingInstance.from_json(step) for step in lineage)
        return cls(tuple(namespace), node, steps, visit)

    def enclosing(self, index: int) -> Lineage:
        """The lineage of whatever runs inside instance `index`."""
        return (*self.lineage, EnclosingInstance(self.namespace, self.node, index, self.visit))

    @property
    def around(self) -> "FanOutKey | None":
        """The entry in one of whose instances this one was made; None outside any."""
        if not self.lineage:
            return None
        *outer, step = self.lineage
        return FanOutKey(step.namespace, step.node, tuple(outer), step.visit)


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one instance's result: `fan_out` is a `FanOutKey.id`, `generation` is raised by a redrive."""

    fan_out: str
    index: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Level:
    """A node that encloses a place of a run, and the instance or the branch of it that the place is inside of."""

    node: str
    index: int | None = None
    branch: str | None = None
