"""Graphs from plans: what their nodes do depends on the plan, the state and the place only."""

from collections.abc import Callable
from typing import Annotated, Any

from orchestrator.compiled import CompiledGraph
from orchestrator.context import (
    current_attempt_index,
    current_fan_out_index,
    current_invocation_id,
    current_run_id,
)
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.node import BranchSpec
from orchestrator.middleware.failure_isolation import FailureIsolationMiddleware
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.reducer import (
    append,
    bounded_append,
    concat_flatten,
    dedupe_append,
    merge,
    merge_all,
    merge_by_key,
)
from orchestrator.state import State
from tests.property.graph_plan import Inside, Level, Loop, Parallel, Step, Wide, Work

QUEUE = "property"
"""Where the instances of every plan go, so that a worker need not know it from its start."""

LOOKS_LIKE_AN_ERROR = {"fan_out_index": "0", "category": "node_exception"}

WITNESSES: list[Callable[[], None]] = []
"""Each is called where the function of a node begins, in this process."""


class Bag(State):
    """One field for each reducer, and what fan-outs and loops need."""

    number: int = 0
    turns: int = 0
    items: list[int] = []
    last: str = ""
    log: Annotated[list[str], append] = []
    tail: Annotated[list[str], bounded_append(4)] = []
    once: Annotated[list[str], dedupe_append()] = []
    flat: Annotated[list[str], concat_flatten] = []
    facts: Annotated[dict[str, int], merge] = {}
    folded: Annotated[dict[str, int], merge_all] = {}
    keyed: Annotated[list[dict[str, Any]], merge_by_key("id")] = []
    value: dict[str, Any] = {}
    results: Annotated[list[Any], append] = []
    notes: Annotated[list[Any], append] = []
    errors: Annotated[list[dict[str, str]], append] = []


class Planned(Exception):
    """A failure that the plan asks for."""

    category = "provider_unavailable"


def graph_of(level: Level, name: str, *, label: str | None = None) -> CompiledGraph[Bag]:
    """The graph of a plan; `name` tells it and its nodes from all others, `label` is what workers know it by."""
    builder: GraphBuilder[Bag] = GraphBuilder(Bag)
    ends: list[tuple[str, str]] = []
    for place, step in enumerate(level.steps):
        node = f"s{place}"
        first = _add(builder, node, step, name=f"{name}.{node}")
        ends.append((first, node))
    for place, (_, node) in enumerate(ends):
        following = ends[place + 1][0] if place + 1 < len(ends) else END
        step = level.steps[place]
        if isinstance(step, Loop):
            builder.add_conditional_edge(node, _looping(ends[place][0], step.turns, following))
        else:
            builder.add_edge(node, following)
    return builder.set_entry(ends[0][0]).compile(name=label or f"property-{name}")


def _add(builder: GraphBuilder[Bag], node: str, step: Step, *, name: str) -> str:
    """Add the step's nodes; the first of them."""
    match step:
        case Work():
            builder.add_node(node, _Doing(name, step), middleware=_around(step), durable=step.durable)
        case Loop():
            builder.add_node(node, _Doing(name, None))
            if step.level is not None:
                _add_subgraph(builder, f"{node}again", step.level, name=name)
                builder.add_edge(f"{node}again", node)
                return f"{node}again"
        case Inside():
            _add_subgraph(builder, node, step.level, name=name)
        case Parallel():
            branches = {
                f"b{place}": BranchSpec(
                    subgraph=graph_of(level, f"{name}b{place}"),
                    inputs={"number": "number"},
                    outputs={"log": "log", "facts": "facts"},
                )
                for place, level in enumerate(step.levels)
            }
            builder.add_parallel_branches_node(node, branches=branches)
        case Wide():
            _add_fan_out(builder, node, step, name=name)
            return f"{node}items"
    return node


def _add_subgraph(builder: GraphBuilder[Bag], node: str, level: Level, *, name: str) -> None:
    outputs = {field: field for field in ("log", "last", "results", "errors")}
    builder.add_subgraph_node(node, graph_of(level, name), inputs={"number": "number"}, outputs=outputs)


def _add_fan_out(builder: GraphBuilder[Bag], node: str, step: Wide, *, name: str) -> None:
    async def fill(state: Bag) -> dict[str, Any]:
        _begin()
        return {"items": [state.number * 10 + index for index in range(step.items)]}

    retry = RetryMiddleware(max_attempts=2, backoff=deterministic_backoff(0))
    builder.add_node(f"{node}items", fill).add_edge(f"{node}items", node)
    builder.add_fan_out_node(
        node,
        subgraph=graph_of(Level((Work(), *step.level.steps)), name),
        items_field="items",
        item_field="number",
        collect_field="value",
        target_field="results",
        extra_outputs={"notes": "log"},
        errors_field="errors",
        error_policy=step.policy,
        instance_middleware=[_Failing(step), retry] if step.retried else [_Failing(step)],
        run_on="orchestrator" if step.on_orchestrator else "workers",
        queue=QUEUE,
    )


class _Failing:
    """Fails the instance that the plan names."""

    def __init__(self, step: Wide) -> None:
        self._step = step

    async def __call__(self, state: Bag, call: Any) -> Any:
        is_first = current_invocation_id() == current_run_id()
        if current_fan_out_index() == self._step.failing and (is_first or self._step.fails_for_good):
            raise Planned("as planned")
        return await call(state)


class _Doing:
    """Says in every field that it ran."""

    def __init__(self, name: str, step: Work | None) -> None:
        self._name = name
        self._step = step

    async def __call__(self, state: Bag) -> dict[str, Any]:
        _begin()
        if self._step is not None and self._step.isolated:
            raise Planned("isolated")
        if self._step is not None and self._step.retried and current_attempt_index() == 0:
            raise Planned("the first attempt")
        told = f"{self._name}:{state.number}:{state.turns}"
        return {
            "turns": state.turns + 1,
            "last": told,
            "log": [told],
            "tail": [told],
            "once": [told, self._name],
            "flat": [[told], []],
            "facts": {self._name: state.turns},
            "folded": [{told: state.number}],
            "keyed": [{"id": self._name, "turns": state.turns}],
            "value": {**LOOKS_LIKE_AN_ERROR, "told": told},
        }


def _begin() -> None:
    for witness in WITNESSES:
        witness()


def _around(step: Work) -> list[Any]:
    isolation = FailureIsolationMiddleware({"log": ["degraded"]}, event_name="planned")
    retry = RetryMiddleware(max_attempts=2, backoff=deterministic_backoff(0))
    return [isolation] * step.isolated + [retry] * step.retried


def _looping(node: str, turns: int, following: Any) -> Any:
    return lambda state: node if state.turns % turns else following
