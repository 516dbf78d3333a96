"""A graph of one function, for people without a graph."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from pydantic import create_model

from orchestrator.errors import CallerError
from orchestrator.execution.function import run_function
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.node import ItemReader
from orchestrator.graph.origin import qualified_name
from orchestrator.middleware.retry import RetryConfig, RetryMiddleware
from orchestrator.state import State

if TYPE_CHECKING:
    from orchestrator.compiled import CompiledGraph

FAN_OUT = "items"


class TooManyFailures(CallerError):
    """More items failed than the caller tolerates; what succeeded is recorded."""

    category = "too_many_failures"

    def __init__(self, failed: int, count: int, tolerate: float) -> None:
        self.failed = failed
        self.count = count
        self.tolerate = tolerate
        super().__init__(f"{failed} of {count} items failed, {tolerate:g} are tolerated; `errors` names each")


class MapState(State):
    """What a mapping starts with, and what it comes to.

    `retry_on` has the qualified names of the exceptions that are tried again; `tolerate` is a count from 1, or a share
    of the items below 1; None tolerates any number.
    """

    items: list[Any] = []
    retry_on: tuple[str, ...] = ()
    max_attempts: int = 1
    tolerate: float | None = None
    results: list[Any] = []
    errors: list[dict[str, str]] = []
    count: int = 0


def map_graph(function: Callable[[Any], Any], *, key: ItemReader | None = None) -> "CompiledGraph[Any]":
    """The graph that calls `function` with each item of its state, known by the function's qualified name.

    The item and the result are typed by the function's annotations, where it has them. `key` names an item for people:
    a field of it, or a function of it.
    """
    item_class = _item_class(function)
    instance = (
        GraphBuilder(item_class)
        .add_node("call", _Calling(function), middleware=[_retried])
        .set_entry("call")
        .add_edge("call", END)
        .compile(name=f"{qualified_name(function)}#item")
    )
    return (
        GraphBuilder(_map_state(item_class))
        .add_fan_out_node(
            FAN_OUT,
            subgraph=instance,
            items_field="items",
            item_field="item",
            collect_field="result",
            target_field="results",
            inputs={"retry_on": "retry_on", "max_attempts": "max_attempts"},
            errors_field="errors",
            count_field="count",
            error_policy="collect",
            on_empty="noop",
            concurrency="auto",
            key=key,
        )
        .add_node("judge", judge)
        .set_entry(FAN_OUT)
        .add_edge(FAN_OUT, "judge")
        .add_edge("judge", END)
        .compile(name=qualified_name(function))
    )


async def judge(state: MapState) -> dict[str, Any]:
    """See that no more items failed than the caller tolerates."""
    failed = len(state.errors)
    if state.tolerate is not None:
        allowed = state.tolerate if state.tolerate >= 1 else state.tolerate * state.count
        if failed > allowed:
            raise TooManyFailures(failed, state.count, allowed)
    return {}


class _Calling:
    """The node that calls the user's function; in the fingerprint it goes by that function's name."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__

    async def __call__(self, state: Any) -> dict[str, Any]:
        return {"result": await run_function(self._function, state.item)}


async def _retried(state: Any, call: Any) -> Any:
    config = RetryConfig(max_attempts=state.max_attempts, classifier=_is_named)
    return await RetryMiddleware(config)(state, call)


def _is_named(error: BaseException, state: Any) -> bool:
    return any(qualified_name(kind) in state.retry_on for kind in type(error).__mro__)


def _item_class(function: Callable[[Any], Any]) -> type[State]:
    hints = get_type_hints(function)
    parameters = list(inspect.signature(function).parameters)
    if not parameters:
        raise TypeError(f"{qualified_name(function)} takes no argument; a mapped function takes one item")
    item, result = hints.get(parameters[0], Any), hints.get("return", Any)
    return create_model(
        "MapItem",
        __base__=State,
        item=(item, ...),
        result=(result | None if result is not Any else Any, None),
        retry_on=(tuple[str, ...], ()),
        max_attempts=(int, 1),
    )


def _map_state(item_class: type[State]) -> type[MapState]:
    make, list_of = cast("Any", create_model), cast("Any", list)
    item, result = (item_class.model_fields[name].annotation for name in ("item", "result"))
    fields: dict[str, Any] = {"items": (list_of[item], []), "results": (list_of[result], [])}
    state_class: type[MapState] = make("MapState", __base__=MapState, **fields)
    return state_class
