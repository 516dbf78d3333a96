"""Where an instance is, as its events name it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.identity import Level
from orchestrator.observers.emitter import Path
from orchestrator.observers.event import InstanceEvent, InstanceState


class Invoked(Protocol):
    """What says which invocation of which run something belongs to."""

    @property
    def run_id(self) -> str: ...

    @property
    def invocation_id(self) -> str: ...

    @property
    def correlation_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class InstancePlace:
    """The instances of one fan-out; `path` is the namespace of the graph that they run."""

    run_id: str
    invocation_id: str
    correlation_id: str
    path: Path
    namespace: tuple[str, ...]
    indexes: tuple[int | None, ...]
    branches: tuple[str | None, ...]

    @classmethod
    def of(cls, invoked: Invoked, path: Path, levels: Sequence[Level]) -> "InstancePlace":
        """The instances of the fan-out that the path ends with; `levels` are the nodes around it."""
        return cls(
            invoked.run_id,
            invoked.invocation_id,
            invoked.correlation_id,
            path,
            (*(level.node for level in levels), path[-1]),
            tuple(level.index for level in levels),
            (*(level.branch for level in levels), None),
        )

    def event(self, index: int, state: InstanceState, **facts: Any) -> InstanceEvent:
        """That an instance has come to a state; `facts` are the other fields."""
        return InstanceEvent(
            run_id=self.run_id,
            invocation_id=self.invocation_id,
            correlation_id=self.correlation_id,
            namespace=self.namespace,
            fan_out_index_chain=(*self.indexes, index),
            branch_name_chain=self.branches,
            state=state,
            **facts,
        )
