"""What is traced, and how much of it."""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingOptions:
    """What an observer traces.

    Of a fan-out `instance_share` of the instances are traced, at most `most_instances`: enough to see how they go,
    however many there are; they share this number for the fan-outs inside them. Subgraphs (by the name of the compiled
    graph) and fan-outs (by the name of the node) that are `detached_...` have traces of their own, one each time and
    one an instance; the node's span links to them.
    `calls` and `saves` say whether there are spans of model calls, and of what became durable or was migrated.
    """

    instance_share: float = 1.0
    most_instances: int = 1000
    detached_subgraphs: Set[str] = field(default_factory=frozenset)
    detached_fan_outs: Set[str] = field(default_factory=frozenset)
    calls: bool = True
    saves: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.instance_share <= 1.0:
            raise ValueError(f"instance_share is {self.instance_share}; pass a share between 0 and 1")
        if self.most_instances < 0:
            raise ValueError(f"most_instances is {self.most_instances}; pass 0 or more")

    def to_texts(self) -> dict[str, str]:
        """The options that are not the default ones, as JSON texts."""
        default = TracingOptions()
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: json.dumps(sorted(value) if isinstance(value, Set) else value)
            for name, value in given.items()
            if value != getattr(default, name)
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "TracingOptions":
        """The options again; what else stands among the texts is left alone.

        Raises:
            ValueError: they are none.
        """
        given: dict[str, Any] = {one.name: json.loads(texts[one.name]) for one in fields(cls) if one.name in texts}
        sets: dict[str, Any] = {name: frozenset(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **sets})

    def traced(self, instance_count: int) -> int:
        """How many of so many instances are traced."""
        wanted = instance_count * self.instance_share
        # A share that is not none shows one instance at least.
        return min(max(round(wanted), int(wanted > 0)), self.most_instances)

    def inside(self, traced: int) -> "TracingOptions":
        """The options inside each of so many instances that are traced: of fan-outs there, one instance at least is."""
        return replace(self, most_instances=min(max(self.most_instances // max(traced, 1), 1), self.most_instances))
