"""The kinds of nodes, as they stand in a compiled graph."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.middleware.chain import Middleware

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph
    from orchestrator.graph.projection import Projection

ItemReader = str | Callable[[Any], Any]
"""What reads a name off an item: a field of it, or a function of it."""

ErrorPolicy = Literal["fail_fast", "collect"]
OnEmpty = Literal["raise", "noop"]
RunOn = Literal["workers", "orchestrator"]

CHOICES = {
    "error_policy": ("fail_fast", "collect"),
    "on_empty": ("raise", "noop"),
    "run_on": ("workers", "orchestrator"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionNode:
    """A function of the state that gives a partial update; async, or plain and then run in a thread.

    Inside an instance, a durable one is not run again by a later delivery: that goes on after it.
    """

    name: str
    function: Callable[[Any], Any]
    middleware: tuple[Middleware, ...] = ()
    durable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphNode:
    """A compiled graph as one node of another; `projection` says what crosses the boundary."""

    name: str
    graph: "Graph"
    projection: "Projection"
    middleware: tuple[Middleware, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutNode:
    """A node that runs a subgraph once per item.

    `inputs` maps subgraph fields to the outer fields they are read from, `extra_outputs` maps outer fields to the
    subgraph fields whose per-instance values they get. `key` reads off an item what people call its instance; `tags`
    maps names to more that is read off it. Both are evaluated once, when the node is entered, and kept as text.
    """

    name: str
    subgraph: "Graph"
    collect_field: str
    target_field: str
    items_field: str | None = None
    item_field: str | None = None
    count: int | Callable[[Any], int] | None = None
    concurrency: int | Callable[[Any], int | None] | Literal["auto"] | None = 10
    error_policy: ErrorPolicy = "fail_fast"
    on_empty: OnEmpty = "raise"
    count_field: str | None = None
    errors_field: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    extra_outputs: Mapping[str, str] = field(default_factory=dict)
    instance_middleware: tuple[Middleware, ...] = ()
    middleware: tuple[Middleware, ...] = ()
    key: ItemReader | None = None
    tags: Mapping[str, ItemReader] = field(default_factory=dict)
    run_on: RunOn = "workers"
    queue: str | None = None
    time_limit: timedelta | None = None
    subgraph_identity: str | None = None

    def __post_init__(self) -> None:
        for option, choices in CHOICES.items():
            if getattr(self, option) not in choices:
                raise ValueError(
                    f"fan-out {self.name!r}: {option} is {getattr(self, option)!r}; "
                    f"pass one of {', '.join(map(repr, choices))}"
                )
        if self.time_limit is not None and self.time_limit <= timedelta(0):
            raise ValueError(f"fan-out {self.name!r}: time_limit is {self.time_limit}; pass one above zero")

    @property
    def contributed_fields(self) -> tuple[str, ...]:
        """The subgraph fields that an instance contributes: the collected one first, each once."""
        return tuple(dict.fromkeys((self.collect_field, *self.extra_outputs.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchSpec:
    """One of several branches: a subgraph, or a function of the outer state that gives a partial update of it.

    `when` decides at dispatch, with the outer state, whether the branch runs at all. `inputs` maps subgraph fields to
    the outer fields they are read from, `outputs` maps outer fields to subgraph fields.
    """

    subgraph: "Graph | None" = None
    call: Callable[[Any], Any] | None = None
    when: Callable[[Any], bool] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    middleware: Sequence[Middleware] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelBranchesNode:
    """A node that runs different things at once and merges what they give in the order of their declaration.

    Under `collect` a failed branch gives nothing but a record in `errors_field`, where one is named.
    """

    name: str
    branches: Mapping[str, BranchSpec]
    error_policy: ErrorPolicy = "fail_fast"
    errors_field: str | None = None
    middleware: tuple[Middleware, ...] = ()

    def __post_init__(self) -> None:
        if self.error_policy not in CHOICES["error_policy"]:
            raise ValueError(
                f"node {self.name!r}: error_policy is {self.error_policy!r}; pass 'fail_fast' or 'collect'"
            )


Node = FunctionNode | SubgraphNode | FanOutNode | ParallelBranchesNode
