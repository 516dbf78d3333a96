"""What observers are told, in which order, and what they cannot disturb."""

import asyncio
import logging
import sys
import threading
import time
from contextlib import nullcontext
from itertools import pairwise
from typing import Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.compiled import CompiledGraph
from orchestrator.context import current_invocation_id
from orchestrator.errors import NodeException, RoutingError
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.observers.delivery import Delivery, DeliverySet, DrainSummary
from orchestrator.observers.draining import ObserverNotAvailableInWorker, drain_events_for
from orchestrator.observers.emitting import emit_failure_isolated
from orchestrator.observers.event import (
    CheckpointSavedEvent,
    Event,
    FailureIsolatedEvent,
    NodeEvent,
    Phase,
    SaveKind,
)
from orchestrator.reducer import append
from orchestrator.state import State


class Trace(State):
    v: int = 0
    items: list[int] = []
    seen: Annotated[list[str], append] = []
    results: Annotated[list[int], append] = []


class One(State):
    item: int = 0
    out: int = 0


class Recording:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    def told(self) -> list[tuple[int, str, str]]:
        return [(event.step, event.phase.value, event.node_name) for event in self.nodes()]

    def nodes(self) -> list[NodeEvent]:
        return [event for event in self.events if isinstance(event, NodeEvent)]


def chain(*names: str, **functions: Any) -> GraphBuilder[Trace]:
    builder = GraphBuilder(Trace).set_entry(names[0])
    for name in names:
        builder.add_node(name, functions.get(name, noted(name)))
    for name, follower in pairwise(names):
        builder.add_edge(name, follower)
    return builder.add_edge(names[-1], END)


def noted(name: str) -> Any:
    async def note(state: Trace) -> dict[str, Any]:
        return {"v": state.v + 1, "seen": [name]}

    return note


async def boom(_state: Any) -> dict[str, Any]:
    raise ValueError("boom")


async def double(state: One) -> dict[str, Any]:
    return {"out": state.item * 2}


def wide(node: Any = double, **options: Any) -> CompiledGraph[Trace]:
    instance = GraphBuilder(One).add_node("one", node).set_entry("one").add_edge("one", END).compile()
    return (
        GraphBuilder(Trace)
        .add_fan_out_node(
            "each",
            subgraph=instance,
            items_field="items",
            item_field="item",
            collect_field="out",
            target_field="results",
            **options,
        )
        .set_entry("each")
        .compile()
    )


async def recorded(graph: CompiledGraph[Trace], state: Trace | None = None, **how: Any) -> Recording:
    seen = Recording()
    graph.attach_observer(seen, phases=how.pop("phases", None))
    try:
        await graph.invoke(state or Trace(), **how)
    finally:
        await graph.drain()
    return seen


async def test_an_attempt_is_a_pair_of_events_with_the_states_before_and_after():
    seen = await recorded(chain("a", "b").compile())
    assert seen.told() == [(0, "started", "a"), (0, "completed", "a"), (1, "started", "b"), (1, "completed", "b")]
    assert [event.pre_state.v for event in seen.nodes()] == [0, 0, 1, 1]
    assert [event.post_state and event.post_state.v for event in seen.nodes()] == [None, 1, None, 2]
    assert {event.namespace for event in seen.nodes()} == {("a",), ("b",)}


async def test_those_attached_to_the_graph_are_told_before_those_of_the_invocation():
    order: list[str] = []

    def named(name: str) -> Any:
        async def observe(event: Event) -> None:
            assert isinstance(event, NodeEvent)
            order.append(f"{name} {event.phase.value}")

        return observe

    graph = chain("a").compile()
    graph.attach_observer(named("graph"))
    await graph.invoke(observers=[named("call")])
    await graph.drain()
    assert order == ["graph started", "call started", "graph completed", "call completed"]


async def test_an_observer_that_was_removed_is_told_nothing_more():
    graph, removed, other = chain("a").compile(), Recording(), Recording()
    handle = graph.attach_observer(removed)
    graph.attach_observer(other)
    await graph.invoke()
    for _ in range(2):
        handle.remove()
        await graph.invoke()
    await graph.drain()
    assert (len(removed.nodes()), len(other.nodes())) == (2, 6)


async def test_an_observer_that_was_attached_twice_is_removed_once():
    graph, seen = chain("a").compile(), Recording()
    graph.attach_observer(seen)
    graph.attach_observer(seen).remove()
    await graph.invoke()
    await graph.drain()
    assert len(seen.nodes()) == 2


@pytest.mark.parametrize("change", ["attached", "removed"])
async def test_who_is_told_is_settled_when_the_invocation_begins(change: str):
    seen = Recording()

    async def changing(_state: Trace) -> dict[str, int]:
        if change == "attached":
            graph.attach_observer(seen)
        else:
            handle.remove()
        return {"v": 1}

    graph = chain("a", "b", a=changing).compile()
    handle = graph.attach_observer(Recording() if change == "attached" else seen)
    await graph.invoke()
    await graph.drain()
    assert len(seen.nodes()) == (0 if change == "attached" else 4)


async def test_an_error_is_in_the_completed_event_and_reaches_the_caller_all_the_same():
    graph, seen = chain("a", "b", b=boom).compile(), Recording()
    graph.attach_observer(seen)
    with pytest.raises(NodeException, match="boom"):
        await graph.invoke()
    await graph.drain()
    last = seen.nodes()[-1]
    assert (last.node_name, last.phase, last.post_state) == ("b", Phase.COMPLETED, None)
    assert isinstance(last.error, NodeException)
    assert isinstance(last.error.__cause__, ValueError)


async def test_an_edge_that_leads_nowhere_is_the_error_of_the_node_before_it():
    graph, seen = GraphBuilder(Trace).add_node("a", noted("a")).set_entry("a"), Recording()
    compiled = graph.add_conditional_edge("a", lambda _state: "nowhere").compile()
    compiled.attach_observer(seen)
    with pytest.raises(RoutingError):
        await compiled.invoke()
    await compiled.drain()
    assert [type(event.error) for event in seen.nodes()] == [type(None), RoutingError]


async def test_every_attempt_has_its_own_pair_and_all_have_one_step():
    tries: list[int] = []

    async def second_time(_state: Any) -> dict[str, Any]:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return {"v": 7}

    retry = RetryMiddleware(max_attempts=3, classifier=lambda _e, _s: True, backoff=deterministic_backoff(0))
    builder = GraphBuilder(Trace).add_node("a", second_time, middleware=[retry]).set_entry("a")
    seen = await recorded(builder.compile())
    assert [(e.phase.value, e.attempt_index, e.step, e.error is None) for e in seen.nodes()] == [
        ("started", 0, 0, True),
        ("completed", 0, 0, False),
        ("started", 1, 0, True),
        ("completed", 1, 0, True),
    ]


async def test_a_middleware_that_recovers_makes_a_success_of_the_attempt():
    async def recover(state: Any, call: Any) -> Any:
        try:
            return await call(state)
        except ValueError:
            return {"v": 5}

    builder = GraphBuilder(Trace).add_node("a", boom, middleware=[recover]).set_entry("a")
    last = (await recorded(builder.compile())).nodes()[-1]
    assert (last.error, last.post_state.v) == (None, 5)


async def test_an_isolated_failure_stays_the_error_of_its_attempt():
    async def isolate(state: Any, call: Any) -> Any:
        try:
            return await call(state)
        except ValueError as error:
            emit_failure_isolated("degraded", pre_state=state, post_state={"v": 5}, error=error)
            return {"v": 5}

    builder = GraphBuilder(Trace).add_node("a", boom, middleware=[isolate]).set_entry("a")
    seen = await recorded(builder.compile())
    assert [type(event) for event in seen.events] == [NodeEvent, NodeEvent, FailureIsolatedEvent]
    assert isinstance(seen.nodes()[-1].error, NodeException)
    caught = seen.events[-1]
    assert isinstance(caught, FailureIsolatedEvent)
    assert (caught.namespace, caught.event_name, caught.post_state) == (("a",), "degraded", {"v": 5})
    assert caught.caught_exception.message == "boom"


async def test_a_subgraph_has_no_events_of_its_own_and_shares_the_steps():
    inner = chain("x", "y").compile()
    builder = chain("a").add_subgraph_node("sub", inner, inputs={"v": "v"}, outputs={"v": "v"})
    graph = GraphBuilder(Trace).add_node("a", noted("a")).add_subgraph_node("sub", inner, inputs={"v": "v"}, outputs={})
    graph.add_node("z", noted("z")).set_entry("a").add_edge("a", "sub").add_edge("sub", "z").add_edge("z", END)
    assert builder
    seen = await recorded(graph.compile())
    started = [event for event in seen.nodes() if event.phase is Phase.STARTED]
    assert [(event.step, event.namespace) for event in started] == [
        (0, ("a",)),
        (1, ("sub", "x")),
        (2, ("sub", "y")),
        (3, ("z",)),
    ]
    assert [tuple(state.v for state in event.parent_states) for event in started] == [(), (1,), (1,), ()]
    assert {event.fan_out_index_chain for event in started if event.namespace[0] == "sub"} == {(None,)}


async def test_an_observer_of_a_subgraph_is_told_of_what_is_inside_after_those_of_the_outer_graph():
    inner, order = chain("x").compile(), []

    def named(name: str) -> Any:
        async def observe(event: Event) -> None:
            if isinstance(event, NodeEvent) and event.phase is Phase.STARTED:
                order.append((name, event.namespace))

        return observe

    graph = GraphBuilder(Trace).add_subgraph_node("sub", inner).set_entry("sub").compile()
    inner.attach_observer(named("inner"))
    graph.attach_observer(named("outer"))
    await graph.invoke()
    await graph.drain()
    assert order == [("outer", ("sub", "x")), ("inner", ("sub", "x"))]


async def test_the_events_of_instances_come_before_the_completion_of_their_fan_out():
    graph = wide()
    seen = await recorded(graph, Trace(items=[1, 2, 3]))
    assert (seen.told()[0][1:], seen.told()[-1][1:]) == (("started", "each"), ("completed", "each"))
    inner = seen.nodes()[1:-1]
    assert [(event.fan_out_index, event.phase.value) for event in inner] == [
        (0, "started"),
        (0, "completed"),
        (1, "started"),
        (1, "completed"),
        (2, "started"),
        (2, "completed"),
    ]
    assert {event.namespace for event in inner} == {("each", "one")}
    assert [event.post_state.out for event in inner if event.post_state] == [2, 4, 6]
    assert {event.parent_states[0].items[0] for event in inner} == {1}
    assert len({event.step for event in seen.nodes()}) == 4


async def test_nested_instances_are_told_apart_by_the_chain_of_their_indexes():
    leaf = GraphBuilder(One).add_node("leaf", double).set_entry("leaf").compile()

    class Middle(State):
        items: list[int] = []
        results: Annotated[list[int], append] = []

    class Top(State):
        items: list[list[int]] = []
        results: Annotated[list[list[int]], append] = []

    fields: Any = {"items_field": "items", "target_field": "results"}
    middle = GraphBuilder(Middle).add_fan_out_node(
        "inner", subgraph=leaf, item_field="item", collect_field="out", **fields
    )
    graph = GraphBuilder(Top).add_fan_out_node(
        "outer", subgraph=middle.set_entry("inner").compile(), item_field="items", collect_field="results", **fields
    )
    compiled, seen = graph.set_entry("outer").compile(), Recording()
    compiled.attach_observer(seen)
    await compiled.invoke(Top(items=[[1, 2], [3, 4]]))
    await compiled.drain()
    leaves = [event for event in seen.nodes() if event.node_name == "leaf"]
    assert {event.fan_out_index_chain for event in leaves} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {event.fan_out_index_chain for event in seen.nodes() if event.node_name == "inner"} == {(0,), (1,)}
    assert {event.branch_name_chain for event in leaves} == {(None, None)}


async def test_an_error_inside_an_instance_keeps_its_category_on_the_way():
    seen = await recorded(wide(boom, error_policy="collect"), Trace(items=[1]))
    failed = [event for event in seen.nodes() if event.node_name == "one" and event.error]
    assert [getattr(event.error, "category", None) for event in failed] == ["node_exception"]


async def failing(_event: Event) -> None:
    raise RuntimeError("no")


async def let_out_a_cancellation(_event: Event) -> None:
    waited_for = asyncio.create_task(asyncio.sleep(60))
    waited_for.cancel()
    await waited_for


class Panic(BaseException):
    """What Rust code raises, and test frameworks do, is no Exception."""


async def panicking(_event: Event) -> None:
    raise Panic


@pytest.mark.parametrize("broken", [failing, let_out_a_cancellation, panicking])
async def test_an_observer_that_raises_disturbs_nobody(caplog, broken):
    graph = chain("a").compile()
    graph.attach_observer(broken)
    with caplog.at_level(logging.ERROR):
        seen = await asyncio.wait_for(recorded(graph), timeout=5)
    assert len(seen.events) == 2
    assert [record.getMessage() for record in caplog.records] == ["observer failed"] * 2


async def ending(_event: Event) -> None:
    """Cancel whoever tells it."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def test_an_observer_that_cancels_whoever_tells_it_keeps_nobody_waiting_and_what_is_lost_is_counted_once(caplog):
    graph = chain("a").compile()
    graph.attach_observer(ending)
    await graph.invoke()
    assert await asyncio.wait_for(graph.drain(), timeout=5) == DrainSummary(undelivered_count=2)
    assert await graph.drain() == DrainSummary()
    assert [(record.getMessage(), record.count) for record in caplog.records] == [
        ("observers were not told everything", 2)
    ]


async def test_whoever_waits_for_events_learns_how_many_were_not_told():
    lost: list[DrainSummary] = []

    async def read(_state: Any) -> dict[str, Any]:
        lost.append(await drain_events_for(current_invocation_id() or ""))
        return {}

    graph = chain("a", a=read).compile()
    graph.attach_observer(ending)
    await graph.invoke()
    assert lost == [DrainSummary(undelivered_count=1)]


def test_an_observer_ends_its_process_where_it_asks_for_that():
    async def leave(_event: Event) -> None:
        raise SystemExit(3)

    graph = chain("a").compile()
    graph.attach_observer(leave)
    with pytest.raises(SystemExit, match="3"):
        graph.run()


async def test_an_observer_is_told_of_the_phases_that_it_asked_for():
    graph, both = chain("a").compile(), Recording()
    started = await recorded(graph, phases=["started"])
    assert [event.phase for event in started.nodes()] == [Phase.STARTED]
    graph.attach_observer(both, phases=[Phase.CHECKPOINT_SAVED])
    await graph.invoke()
    await graph.drain()
    assert [type(event) for event in both.events] == [CheckpointSavedEvent]


def test_an_observer_of_no_phase_is_refused():
    with pytest.raises(ValueError, match="no phase"):
        chain("a").compile().attach_observer(Recording(), phases=[])


async def test_there_is_one_checkpoint_event_for_each_durable_instance():
    seen = await recorded(wide(), Trace(items=[5, 6]), phases=[Phase.CHECKPOINT_SAVED])
    saves = [(e.save_kind, e.fan_out_index) for e in seen.events if isinstance(e, CheckpointSavedEvent)]
    assert saves == [(SaveKind.INSTANCE, 0), (SaveKind.INSTANCE, 1), (SaveKind.NODE, None)]


async def test_a_drain_that_takes_too_long_drops_the_rest_and_counts_it():
    held = asyncio.Event()

    async def slow(_event: Event) -> None:
        await held.wait()

    graph = chain("a", "b").compile()
    graph.attach_observer(slow)
    await graph.invoke()
    summary = await graph.drain(timeout=0.01)
    assert (summary.timeout_reached, summary.undelivered_count) == (True, 4)
    assert not (await graph.drain()).timeout_reached
    held.set()
    await graph.invoke()
    assert (await graph.drain()).undelivered_count == 0


def holding_back() -> tuple[Any, asyncio.Event]:
    """An observer that takes nothing until somebody says so."""
    gate = asyncio.Event()

    async def slow(_event: Event) -> None:
        await gate.wait()

    return slow, gate


async def test_a_drain_neither_waits_for_what_another_thread_tells_nor_drops_it():
    graph, seen, is_invoked = chain("a").compile(), Recording(), threading.Event()
    slow, gate = holding_back()
    theirs: list[asyncio.AbstractEventLoop] = []

    async def elsewhere() -> DrainSummary:
        theirs.append(asyncio.get_running_loop())
        await graph.invoke(observers=[slow, seen])
        is_invoked.set()
        return await graph.drain()

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    assert await asyncio.to_thread(is_invoked.wait, 5)
    await graph.invoke(observers=[Recording()])
    assert await graph.drain(timeout=5) == DrainSummary()
    theirs[0].call_soon_threadsafe(gate.set)
    assert await other == DrainSummary()
    assert len(seen.events) == 2


def test_a_drain_does_not_wait_for_what_an_earlier_loop_of_its_thread_had_left():
    graph, seen = chain("a").compile(), Recording()
    slow, gate = holding_back()
    with asyncio.Runner() as earlier:
        earlier.run(graph.invoke(observers=[slow, seen]))
        assert asyncio.run(graph.drain(timeout=5)) == DrainSummary()
        gate.set()
        earlier.run(graph.drain())
    assert len(seen.events) == 2


def test_what_another_loop_is_to_tell_is_counted_where_it_cannot_be_waited_for():
    graph = chain("a").compile()
    slow, gate = holding_back()
    with asyncio.Runner() as earlier:
        earlier.run(graph.invoke(observers=[slow], invocation_id="told elsewhere"))
        assert asyncio.run(drain_events_for("told elsewhere", timeout=5)) == DrainSummary(undelivered_count=2)
        gate.set()
        assert earlier.run(drain_events_for("told elsewhere")) == DrainSummary()


async def test_deliveries_are_looked_through_while_another_thread_adds_some():
    kept = DeliverySet()
    mine, theirs = ([Delivery(lambda _path: iter(()), wanted=()) for _ in range(1000)] for _ in range(2))
    for delivery in mine:
        kept.add(delivery)

    def add() -> None:
        for delivery in theirs:
            kept.add(delivery)
            time.sleep(0)

    adding = threading.Thread(target=add)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        adding.start()
        while adding.is_alive():
            assert set(mine) <= set(kept.here())
    finally:
        sys.setswitchinterval(interval)
        adding.join()


async def test_whoever_waits_for_what_is_dropped_waits_no_more():
    is_told = asyncio.Event()

    async def stuck(_event: Event) -> None:
        is_told.set()
        await asyncio.Event().wait()

    async def read(_state: Any) -> dict[str, Any]:
        await drain_events_for(current_invocation_id() or "")
        return {}

    graph = chain("a", a=read).compile()
    graph.attach_observer(stuck)
    handle = await graph.start()
    await is_told.wait()
    await graph.drain(timeout=0.01)
    await asyncio.wait_for(handle.result(), timeout=5)
    await graph.drain(timeout=0.01)


async def test_a_node_waits_for_the_events_before_it():
    seen = Recording()

    async def read(_state: Any) -> dict[str, Any]:
        summary = await drain_events_for(current_invocation_id() or "")
        assert not summary.timeout_reached
        return {"v": len(seen.events)}

    graph = chain("a", "b", b=read).compile()
    graph.attach_observer(seen)
    assert (await graph.invoke()).v == 3
    await graph.drain()
    assert len(seen.events) == 4


async def test_waiting_for_events_drops_nothing_when_the_time_is_over():
    gate, seen = asyncio.Event(), Recording()

    async def slow(_event: Event) -> None:
        await gate.wait()

    async def read(_state: Any) -> dict[str, Any]:
        return {"v": (await drain_events_for(current_invocation_id() or "", timeout=0.01)).undelivered_count}

    graph = chain("a", a=read).compile()
    graph.attach_observer(slow)
    graph.attach_observer(seen)
    assert (await graph.invoke()).v == 1
    gate.set()
    await graph.drain()
    assert len(seen.events) == 2


async def test_an_instance_cannot_wait_for_events():
    async def read(_state: Any) -> dict[str, Any]:
        await drain_events_for(current_invocation_id() or "")
        return {}

    with pytest.raises(NodeException) as raised:
        await wide(read).invoke(Trace(items=[1]))
    assert ObserverNotAvailableInWorker.category in str(raised.value.__cause__) or "observers run" in str(raised.value)


def test_a_synchronous_run_tells_everything_before_it_returns():
    graph, seen = chain("a").compile(), Recording()
    graph.attach_observer(seen)
    graph.run()
    assert len(seen.events) == 2


@pytest.mark.parametrize("failing", [False, True], ids=["that succeeds", "that fails"])
def test_a_run_in_the_background_tells_everything_before_it_gives_its_result(failing):
    told: list[Event] = []

    async def behind(event: Event) -> None:
        for _ in range(1000):
            await asyncio.sleep(0)
        told.append(event)

    handle = chain("a", "b", "c", **({"c": boom} if failing else {})).compile().submit(Trace(), observers=[behind])
    with pytest.raises(NodeException) if failing else nullcontext():
        handle.result(timeout=10)
    assert len(told) == 6


async def test_a_resumed_run_goes_on_counting_steps():
    graph = chain("a", "b", b=boom).compile()
    from_store = Recording()
    store = MemoryStore()
    with pytest.raises(NodeException):
        await graph.invoke(checkpointer=store, invocation_id="run-1")
    with pytest.raises(NodeException):
        await graph.invoke(checkpointer=store, resume_invocation="run-1", observers=[from_store])
    await graph.drain()
    assert [event.step for event in from_store.nodes()] == [1, 1]
