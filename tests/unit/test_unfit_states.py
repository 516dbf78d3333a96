"""Observing changes nothing: what an instance's events cannot carry is left out of them, and the instance goes on."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from backends.opening import open_store
from orchestrator.compiled import CompiledGraph
from orchestrator.context import Cancellation
from orchestrator.execution.lane import Lane
from orchestrator.execution.local import LocalExecutor
from orchestrator.fan_out import progress
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.instance import encoder, kept
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.run import run_instance
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.middleware.failure_isolation import FailureIsolationMiddleware
from orchestrator.observers.event import Event, FailureIsolatedEvent, NodeEvent, Phase, StateLeftOut
from orchestrator.reducer import append
from orchestrator.report import Report
from orchestrator.state import State
from orchestrator.status.observer import StatusObserver
from orchestrator.status.store import MemoryStatusStore
from orchestrator.tracing.tracing import Untraced
from orchestrator.wire.event import encode
from tests.unit.one_delivery import delivery


class Client:
    """What no text can carry, and nothing can print."""

    def __repr__(self) -> str:
        raise RuntimeError("not in a mood")


class Ill(Exception):
    @property
    def category(self) -> str:
        raise RuntimeError("not in a mood")


class Panic(BaseException):
    """What extensions written in Rust raise."""


def panic_when_filled(values: list[int]) -> list[int]:
    if values:
        raise Panic
    return values


class Item(State):
    item: int = 0
    out: int = 0
    data: Any = None
    many: list[Any] = []
    ints: list[int] = []
    empty: Annotated[list[int], AfterValidator(panic_when_filled)] = []


class Items(State):
    items: list[int] = []
    outs: Annotated[list[int], append] = []
    failures: list[dict[str, Any]] = []


def endless() -> list[Any]:
    told: list[Any] = []
    told.append(told)
    return told


UNFIT: dict[str, Callable[[], Any]] = {
    "nan": lambda: float("nan"),
    "object": Client,
    "surrogate": lambda: "\ud800",
    "endless": endless,
    "bytes": lambda: b"\xff",
}
unfit = pytest.mark.parametrize("what", UNFIT)


def giving(what: str) -> Callable[[Item], Any]:
    async def give(state: Item) -> dict[str, Any]:
        return {"out": state.item, "data": UNFIT[what]()}

    return give


async def change_in_place(state: Item) -> dict[str, int]:
    state.ints.append("no number")  # type: ignore[arg-type]
    return {"out": state.item}


async def fill(state: Item) -> dict[str, int]:
    state.empty.append(1)
    return {"out": state.item}


async def give_nothing(_state: Item) -> dict[str, Any]:
    return {}


async def ail(_state: Item) -> dict[str, Any]:
    raise Ill("down, \ud800")


def item_graph(node: Callable[[Item], Any], **options: Any) -> CompiledGraph[Item]:
    return GraphBuilder(Item).add_node("one", node, **options).set_entry("one").add_edge("one", END).compile()


def wide(node: Callable[[Item], Any], *, error_policy: Any = "fail_fast", **options: Any) -> CompiledGraph[Items]:
    builder = GraphBuilder(Items).add_fan_out_node(
        "each",
        subgraph=item_graph(node, **options),
        items_field="items",
        item_field="item",
        collect_field="out",
        target_field="outs",
        error_policy=error_policy,
        errors_field="failures" if error_policy == "collect" else None,
    )
    return builder.set_entry("each").add_edge("each", END).compile("unfit")


def enclosing(run_on: Any) -> CompiledGraph[Items]:
    """A graph inside one whose own state does not fit, inside an instance."""
    middle = GraphBuilder(Item).add_node("spoil", giving("nan")).set_entry("spoil").add_edge("spoil", "inner")
    middle.add_subgraph_node("inner", item_graph(give_nothing), outputs={}).add_edge("inner", END)
    builder = GraphBuilder(Items).add_fan_out_node(
        "each",
        subgraph=middle.compile(),
        items_field="items",
        item_field="item",
        collect_field="out",
        target_field="outs",
        run_on=run_on,
    )
    return builder.set_entry("each").add_edge("each", END).compile("unfit-enclosing")


async def observed(graph: CompiledGraph[Any], state: State, **how: Any) -> tuple[Any, list[Event]]:
    told: list[Event] = []

    async def listen(event: Event) -> None:
        told.append(event)

    final = await asyncio.wait_for(graph.invoke(state, observers=[listen], **how), 10)
    await graph.drain()
    return final, told


def ends_of(told: list[Event], node: str = "one") -> list[NodeEvent]:
    nodes = [event for event in told if isinstance(event, NodeEvent) and event.node_name == node]
    return [event for event in nodes if event.phase is Phase.COMPLETED]


@unfit
async def test_a_state_that_cannot_travel_is_left_out_of_its_event_and_the_result_is_the_same(what: str):
    final, told = await observed(wide(giving(what)), Items(items=[1, 2]))
    assert final.outs == [1, 2]
    assert [event.fan_out_index for event in ends_of(told)] == [0, 1]
    for event in ends_of(told):
        assert isinstance(event.pre_state, Item)
        assert isinstance(event.post_state, StateLeftOut)
        assert "'data'" in event.post_state.reason
        assert event.error is None


@pytest.mark.parametrize("node", [change_in_place, fill])
async def test_a_state_that_was_changed_in_place_is_left_out(node: Any):
    final, told = await observed(wide(node), Items(items=[1]))
    (ended,) = ends_of(told)
    assert (final.outs, type(ended.pre_state), type(ended.post_state)) == ([1], StateLeftOut, StateLeftOut)


async def test_an_attempt_has_its_row_though_its_state_cannot_travel():
    status = StatusObserver(MemoryStatusStore(), nodes=True)
    graph = wide(giving("object"))
    await asyncio.wait_for(graph.invoke(Items(items=[1]), observers=[status], invocation_id="r"), 10)
    await graph.drain()
    rows = await status.get_status(run="r", node="each/one")
    assert [row.state.value for row in rows] == ["RUNNING", "SUCCESS"]


@pytest.mark.parametrize(("run_on", "kind"), [("workers", StateLeftOut), ("orchestrator", Item)])
async def test_an_enclosing_state_is_left_out_where_it_would_have_to_travel(run_on: str, kind: type):
    final, told = await observed(enclosing(run_on), Items(items=[1, 2]))
    assert final.outs == [1, 2]
    own = [event.parent_states[-1] for event in ends_of(told)]
    assert [type(state) for state in own] == [kind, kind]


@unfit
async def test_a_caught_failure_is_told_whatever_was_put_in_its_place(what: str):
    degraded = {"out": 5, "data": UNFIT[what]()}
    graph = wide(ail, middleware=[FailureIsolationMiddleware(degraded, event_name="degraded")])
    final, told = await observed(graph, Items(items=[1]))
    (caught,) = [event for event in told if isinstance(event, FailureIsolatedEvent)]
    assert (final.outs, caught.post_state["out"]) == ([5], 5)
    assert isinstance(caught.post_state["data"], str)


async def test_an_error_that_says_what_no_store_can_keep_is_recorded_and_told(tmp_path: Any):
    store = open_store(f"sqlite:///{tmp_path}/state.db", namespace="unfit")
    graph = wide(ail, error_policy="collect")
    final, told = await observed(graph, Items(items=[1]), checkpointer=store)
    (ended,) = ends_of(told)
    assert final.failures[0]["message"] == r"down, \ud800"
    assert r"down, \ud800" in str(ended.error)


@pytest.mark.parametrize("error", [ValueError, Panic])
async def test_an_event_that_cannot_travel_at_all_is_missed_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[BaseException]
):
    def refuse_nodes(event: Event, path: Any) -> str:
        if isinstance(event, NodeEvent):
            raise error("the payload")
        return encode(event, path)

    monkeypatch.setattr(encoder, "encode", refuse_nodes)
    with caplog.at_level(logging.WARNING):
        final, told = await observed(wide(giving("nan")), Items(items=[7, 8]), invocation_id="r")
    assert (final.outs, ends_of(told)) == ([7, 8], [])
    left_out = [record for record in caplog.records if record.message == "event left out"]
    assert sorted(record.__dict__["index"] for record in left_out) == [0, 1]
    assert {(record.__dict__["run_id"], record.__dict__["node"]) for record in left_out} == {("r", "each/one")}
    assert not any("payload" in str(record.__dict__) for record in left_out)


async def test_a_long_instance_whose_state_cannot_travel_succeeds(monkeypatch: pytest.MonkeyPatch):
    for module in (kept, progress):
        monkeypatch.setattr(module, "TOLD_EVERY_SECONDS", 0.02)
    has_told, has_ended = asyncio.Event(), threading.Event()

    class Telling(MemoryLedger):
        def progress(self, *given: Any, **more: Any) -> bool:
            loop.call_soon_threadsafe(has_told.set)
            # The end of the node is told so too, and not with the report.
            has_ended.wait(5)
            return super().progress(*given, **more)

        async def reports(self, *given: Any, **more: Any) -> list[Report]:
            while not (found := await super().reports(*given, **more)):
                pass
            return found

    async def until_told(state: Item) -> dict[str, Any]:
        state.many.append(Client())
        await asyncio.wait_for(has_told.wait(), 5)
        loop.call_later(0.1, has_ended.set)
        return {"out": state.item}

    loop, graph, ledger = asyncio.get_running_loop(), wide(until_told), Telling()
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph, keep=in_ledger(ledger.progress))
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    final, told = await observed(graph, Items(items=[3]), lane=lane)
    assert (final.outs, len(ends_of(told))) == ([3], 1)


class Broken(Untraced):
    """Fails where nobody expects it."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def instance(self, *_given: Any, **_more: Any) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), Panic("a bug")], ids=["bug", "panic"])
async def test_what_nobody_expects_ends_its_instance_as_a_failure_with_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture, error: BaseException
):
    graph = wide(giving("nan"), error_policy="collect")
    ledger = MemoryLedger()
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph, tracing=Broken(error))
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    final = await asyncio.wait_for(graph.invoke(Items(items=[1]), lane=lane, invocation_id="r"), 10)
    assert [failure["message"] for failure in final.failures] == ["a bug"]
    (record,) = [record for record in caplog.records if record.message == "instance could not be run"]
    assert (record.__dict__["run_id"], record.__dict__["index"]) == ("r", 0)
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit()], ids=type)
async def test_what_ends_a_task_or_a_process_is_nothing_unexpected(error: BaseException):
    graph = wide(giving("nan"))
    work, briefing = delivery(graph, "each", {"item": 1})
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph, tracing=Broken(error))
    with pytest.raises(type(error)):
        await run_instance(work, briefing, runtime, Cancellation())
