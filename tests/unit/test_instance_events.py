"""What observers are told of the states of instances, and of whole invocations."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import FanOutRow
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import NodeException, RunCancelled
from orchestrator.execution.executor import Hint
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.stepping import local_lane
from orchestrator.fan_out import progress, recorder
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.identity import FanOutKey, Slot
from orchestrator.instance import kept
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.observers.delivery import AT_ONCE, Delivery
from orchestrator.observers.event import Event, InstanceEvent, InvocationEvent, NodeEvent, Phase
from orchestrator.observers.instance_states import InstanceStates
from orchestrator.observers.subscription import Subscription
from orchestrator.reducer import append
from orchestrator.report import Report
from orchestrator.state import State

RETRY = RetryMiddleware(max_attempts=3, backoff=deterministic_backoff(0.0), classifier=lambda _error, _state: True)


class Item(State):
    item: int = 0
    out: int = 0


class Items(State):
    items: list[int] = []
    outs: Annotated[list[int], append] = []


class Row(State):
    row: list[int] = []
    outs: Annotated[list[int], append] = []


class Rows(State):
    rows: list[list[int]] = []
    outs: Annotated[list[list[int]], append] = []


class Listening:
    """An observer that keeps what it is told, and says by itself what it wants."""

    def __init__(self, *phases: Phase) -> None:
        self.phases = phases or (Phase.INSTANCE,)
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def instances(self) -> list[InstanceEvent]:
        return [event for event in self.events if isinstance(event, InstanceEvent)]

    def states(self, *, invocation_id: str | None = None) -> dict[tuple[int | None, ...], list[str]]:
        """The states that each instance came to, by the chain of its indexes."""
        told = defaultdict(list)
        for event in self.instances:
            if invocation_id in (None, event.invocation_id):
                told[event.fan_out_index_chain].append(event.state.value)
        return dict(told)


async def double(state: Item) -> dict[str, int]:
    return {"out": state.item * 2}


async def refuse_odd(state: Item) -> dict[str, int]:
    if state.item % 2:
        raise ValueError(f"{state.item} is odd")
    return {"out": state.item}


def item_graph(node: Callable[..., Any] = double, **options: Any) -> CompiledGraph[Item]:
    return GraphBuilder(Item).add_node("one", node, **options).set_entry("one").add_edge("one", END).compile()


def wide(node: Callable[..., Any] = double, **options: Any) -> CompiledGraph[Items]:
    given = {"subgraph": item_graph(node), **options}
    builder = GraphBuilder(Items).add_fan_out_node(
        "each", items_field="items", item_field="item", collect_field="out", target_field="outs", **given
    )
    return builder.set_entry("each").add_edge("each", END).compile()


def deep(node: Callable[..., Any] = double, run_on: Any = "workers", **options: Any) -> CompiledGraph[Rows]:
    inner = GraphBuilder(Row).add_fan_out_node(
        "each",
        subgraph=item_graph(node),
        items_field="row",
        item_field="item",
        collect_field="out",
        target_field="outs",
        **options,
    )
    outer = GraphBuilder(Rows).add_fan_out_node(
        "rows",
        subgraph=inner.set_entry("each").add_edge("each", END).compile(),
        items_field="rows",
        item_field="row",
        collect_field="outs",
        target_field="outs",
        run_on=run_on,
        tags={"size": len},
    )
    return outer.set_entry("rows").add_edge("rows", END).compile()


async def heard(graph: CompiledGraph[Any], state: State, *phases: Phase, **how: Any) -> Listening:
    seen = Listening(*phases)
    try:
        await graph.invoke(state, observers=[seen], **how)
    finally:
        await graph.drain()
    return seen


@pytest.fixture
def told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long instances are heard of in hundredths of a second."""
    for module in (kept, progress):
        monkeypatch.setattr(module, "TOLD_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(recorder, "SWEEP_SECONDS", 0.02)


async def test_an_instance_is_queued_then_runs_then_ends_each_told_once():
    seen = await heard(wide(), Items(items=[1, 2, 3]))
    assert seen.states() == {(index,): ["QUEUED", "RUNNING", "SUCCESS"] for index in range(3)}
    assert {event.namespace for event in seen.instances} == {("each",)}
    ended = [event for event in seen.instances if event.is_terminal]
    assert all(event.worker and event.delivery == 1 and event.attempts == 1 for event in ended)
    assert all(event.duration_seconds is not None and event.at >= event.started_at for event in ended)  # type: ignore[operator]


async def test_an_instance_is_told_by_its_key_and_its_tags_in_every_state():
    graph = wide(key=lambda item: f"k{item}", tags={"kind": lambda item: "odd" if item % 2 else "even"})
    seen = await heard(graph, Items(items=[1, 2]))
    assert {(event.key, event.tags["kind"]) for event in seen.instances} == {("k1", "odd"), ("k2", "even")}


async def test_a_failure_says_why():
    seen = await heard(wide(refuse_odd, error_policy="collect"), Items(items=[1, 2]))
    assert seen.states() == {(0,): ["QUEUED", "RUNNING", "FAILED"], (1,): ["QUEUED", "RUNNING", "SUCCESS"]}
    error = next(event.error for event in seen.instances if event.state == "FAILED")
    assert error is not None
    assert (error.type.rpartition(".")[2], error.message) == ("ValueError", "1 is odd")


async def test_those_that_the_first_failure_stops_are_cancelled():
    async def fail_first(state: Item) -> dict[str, int]:
        if state.item == 0:
            raise ValueError("no")
        await asyncio.sleep(60)
        return {}

    seen = Listening()
    graph = wide(fail_first)
    with pytest.raises(NodeException):
        await graph.invoke(Items(items=[0, 1, 2]), observers=[seen])
    await graph.drain()
    assert {chain: states[-1] for chain, states in seen.states().items()} == {
        (0,): "FAILED",
        (1,): "CANCELLED",
        (2,): "CANCELLED",
    }


class OnlyFirstExecutor(LocalExecutor):
    """Passes on the word for the first instance only."""

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        await super().dispatch([hint for hint in hints if hint.index == 0])


async def test_those_that_the_first_failure_leaves_in_the_queue_are_cancelled():
    graph, ledger, seen = wide(refuse_odd), MemoryLedger(), Listening()
    executor = OnlyFirstExecutor(ledger, Runtime(worker="me", find=lambda _name, _fingerprint: graph))
    with pytest.raises(NodeException):
        await graph.invoke(Items(items=[1, 2]), observers=[seen], lane=Lane(ledger=ledger, executor=executor))
    await graph.drain()
    assert seen.states() == {(0,): ["QUEUED", "RUNNING", "FAILED"], (1,): ["QUEUED", "CANCELLED"]}


async def test_what_an_invocation_left_in_the_queue_when_it_ended_is_queued_again_in_the_next_one():
    graph, ledger, store = wide(refuse_odd, concurrency=2), MemoryLedger(), MemoryStore()
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph)
    only_first = Lane(ledger=ledger, executor=OnlyFirstExecutor(ledger, runtime))
    with pytest.raises(NodeException):
        await graph.invoke(Items(items=[1, 2]), checkpointer=store, lane=only_first, invocation_id="run")
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    seen = Listening()
    with pytest.raises(NodeException):
        await graph.invoke(Items(), checkpointer=store, lane=lane, resume_invocation="run", observers=[seen])
    await graph.drain()
    assert seen.states()[1,] == ["QUEUED", "RUNNING", "SUCCESS"]


async def test_those_of_a_cancelled_run_are_cancelled():
    started = asyncio.Event()

    async def wait(_state: Item) -> dict[str, int]:
        started.set()
        await asyncio.sleep(60)
        return {}

    seen = Listening(Phase.INSTANCE, Phase.INVOCATION)
    graph = wide(wait, concurrency=1)
    handle = await graph.start(Items(items=[0, 1]), observers=[seen])
    await started.wait()
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await handle.result()
    await graph.drain()
    assert seen.states() == {(0,): ["QUEUED", "CANCELLED"]}
    assert [event.state.value for event in seen.events if isinstance(event, InvocationEvent)] == [
        "started",
        "cancelled",
    ]


@pytest.mark.parametrize("where", ["node", "instance"])
async def test_every_further_attempt_is_told_and_counted(where: str):
    tries: list[int] = []

    async def third_time(_state: Item) -> dict[str, int]:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return {"out": 1}

    if where == "node":
        graph = wide(subgraph=item_graph(third_time, middleware=[RETRY]))
    else:
        graph = wide(third_time, instance_middleware=[RETRY])
    seen = await heard(graph, Items(items=[1]))
    assert seen.states() == {(0,): ["QUEUED", "RUNNING", "RETRYING", "RETRYING", "SUCCESS"]}
    assert [event.attempts for event in seen.instances if event.state == "RETRYING"] == [2, 3]
    assert seen.instances[-1].attempts == (1 if where == "node" else 3)


async def test_what_an_earlier_invocation_recorded_is_cached_in_index_order():
    is_broken = True

    async def fail_last(state: Item) -> dict[str, int]:
        if is_broken and state.item == 5:
            raise ValueError("broken")
        return {"out": state.item}

    store, graph, items = MemoryStore(), wide(fail_last, concurrency=1), list(range(6))
    with pytest.raises(NodeException):
        await graph.invoke(Items(items=items), checkpointer=store, invocation_id="run")
    is_broken = False
    seen = await heard(graph, Items(), checkpointer=store, resume_invocation="run")
    assert seen.states() == {**{(n,): ["CACHED"] for n in range(5)}, (5,): ["QUEUED", "RUNNING", "SUCCESS"]}
    assert [event.fan_out_index for event in seen.instances[:5]] == list(range(5))
    assert seen.instances[-1].delivery == 2


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
async def test_nested_instances_are_told_of_with_the_chain_of_their_indexes(run_on: str):
    seen = await heard(deep(run_on=run_on), Rows(rows=[[1, 2], [3]]))
    states = seen.states()
    assert {chain for chain in states if len(chain) == 2} == {(0, 0), (0, 1), (1, 0)}
    dispatched = ["QUEUED", "RUNNING", "SUCCESS"]
    inside = dispatched[1:] if run_on == "workers" else dispatched
    assert all(told == (inside if len(chain) == 2 else dispatched) for chain, told in states.items())
    assert {event.namespace for event in seen.instances} == {("rows",), ("rows", "each")}
    tags = {event.tags["size"] for event in seen.instances if event.namespace == ("rows",)}
    assert tags == {"1", "2"}


async def test_a_nested_failure_that_nobody_records_is_told_all_the_same():
    graph = deep(refuse_odd)
    seen = Listening()
    with pytest.raises(NodeException):
        await graph.invoke(Rows(rows=[[1]]), observers=[seen])
    await graph.drain()
    assert seen.states() == {(0, 0): ["RUNNING", "FAILED"], (0,): ["QUEUED", "RUNNING", "FAILED"]}


async def test_a_long_instance_is_told_to_run_while_it_runs(told_soon: None):
    is_told = asyncio.Event()

    class Waiting(Listening):
        async def __call__(self, event: Event) -> None:
            await super().__call__(event)
            if isinstance(event, InstanceEvent) and event.state == "RUNNING":
                is_told.set()

    async def until_told(_state: Item) -> dict[str, int]:
        await asyncio.wait_for(is_told.wait(), 10)
        return {"out": 1}

    seen, graph = Waiting(), wide(until_told)
    await graph.invoke(Items(items=[1]), observers=[seen])
    await graph.drain()
    assert seen.states() == {(0,): ["QUEUED", "RUNNING", "SUCCESS"]}


async def test_what_a_long_instance_told_is_read_with_its_report_at_the_latest(monkeypatch: pytest.MonkeyPatch):
    for module in (kept, progress):
        monkeypatch.setattr(module, "TOLD_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(recorder, "SWEEP_SECONDS", 3600)
    has_told = asyncio.Event()

    class Telling(MemoryLedger):
        def progress(self, *given: Any, **more: Any) -> bool:
            loop.call_soon_threadsafe(has_told.set)
            return super().progress(*given, **more)

        async def reports(self, *given: Any, **more: Any) -> list[Report]:
            while not (found := await super().reports(*given, **more)):
                pass
            return found

    async def until_told(_state: Item) -> dict[str, int]:
        await asyncio.wait_for(has_told.wait(), 10)
        return {"out": 1}

    loop, graph, ledger = asyncio.get_running_loop(), wide(until_told), Telling()
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph, keep=in_ledger(ledger.progress))
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    seen = await heard(graph, Items(items=[1]), Phase.STARTED, Phase.COMPLETED, lane=lane)
    inner = [event.phase.value for event in seen.events if isinstance(event, NodeEvent) and event.node_name == "one"]
    assert inner == ["started", "completed"]


class DyingExecutor(LocalExecutor):
    """Loses the first deliveries, so many of each instance."""

    def __init__(self, ledger: MemoryLedger, runtime: Runtime, *, losses: int) -> None:
        super().__init__(ledger, runtime)
        self._victims = ledger
        self._left: dict[int, int] = defaultdict(lambda: losses)

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        kept = []
        for hint in hints:
            if self._left[hint.index] == 0:
                kept.append(hint)
                continue
            self._left[hint.index] -= 1
            slot, owner = Slot(hint.fan_out, hint.index, hint.generation), f"victim-{hint.index}"
            token = secrets.token_hex(16)
            self._victims.claim(hint.run_id, [slot], owner=owner, token=token, ttl_seconds=60)
            self._victims.release(owner, has_died=True)
        await super().dispatch(kept)


def dying_lane(graph: CompiledGraph[Any], losses: int) -> Lane:
    ledger = MemoryLedger()
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph)
    return Lane(ledger=ledger, executor=DyingExecutor(ledger, runtime, losses=losses))


async def test_a_lost_delivery_is_told_and_the_next_one_is_another(told_soon: None):
    graph = wide()
    seen = await heard(graph, Items(items=[7]), lane=dying_lane(graph, 1))
    told = [(event.state.value, event.delivery) for event in seen.instances]
    assert told == [("QUEUED", 1), ("LOST", 1), ("QUEUED", 2), ("RUNNING", 2), ("SUCCESS", 2)]


async def test_an_instance_that_is_lost_too_often_has_failed(told_soon: None):
    graph, options = wide(error_policy="collect"), Options(owner="me", max_deliveries=2)
    seen = await heard(graph, Items(items=[7]), lane=dying_lane(graph, 9), options=options)
    assert seen.states() == {(0,): ["QUEUED", "LOST", "QUEUED", "LOST", "FAILED"]}
    assert seen.instances[-1].error is not None
    assert seen.instances[-1].error.category == "instance_lost"


class ForgetfulExecutor(LocalExecutor):
    """Loses the first message of each instance."""

    def __init__(self, ledger: MemoryLedger, runtime: Runtime) -> None:
        super().__init__(ledger, runtime)
        self.lost: set[int] = set()

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        told = [hint for hint in hints if hint.index in self.lost]
        self.lost.update(hint.index for hint in hints)
        await super().dispatch(told)


async def test_a_message_that_is_repeated_is_no_news(told_soon: None):
    graph, ledger = wide(), MemoryLedger()
    executor = ForgetfulExecutor(ledger, Runtime(worker="me", find=lambda _name, _fingerprint: graph))
    options = Options(owner="me", claim_deadline=timedelta(0))
    lane = Lane(ledger=ledger, executor=executor)
    seen = await heard(graph, Items(items=[7]), lane=lane, options=options)
    assert executor.lost == {0}
    assert seen.states() == {(0,): ["QUEUED", "RUNNING", "SUCCESS"]}


def rolled_forward(count: int, observer: Listening, names: Any = None) -> Delivery:
    """A delivery that was given so many instances that ended earlier."""
    delivery = Delivery(lambda _path: iter([Subscription.of(observer)]), wanted=observer.phases)
    ids = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    frame: Any = SimpleNamespace(emitter=delivery, levels=(), **ids)
    row = FanOutRow(key=FanOutKey((), "each"), instance_count=count, item_hashes=b"", item_keys=names)
    recorded = Bitmap(count, range(count))
    InstanceStates(frame, row, tell_themselves=False).rolled_forward(recorded, {})
    recorded.discard(0)
    return delivery


async def test_others_have_their_turn_while_many_are_rolled_forward():
    count, turns, seen = 2_000, [0], Listening()
    delivery = rolled_forward(count, seen)

    async def take_turns() -> None:
        while True:
            turns[0] += 0 < len(seen.events) < count
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    await delivery.wait(timeout_seconds=None)
    others.cancel()
    assert [event.fan_out_index for event in seen.instances] == list(range(count))
    assert turns[0] >= count // AT_ONCE - 1


async def test_what_is_rolled_forward_is_made_when_its_turn_comes_and_waits_for_no_observer():
    class Names(list[str]):
        asked = 0

        def __getitem__(self, index: Any) -> Any:
            Names.asked += 1
            return super().__getitem__(index)

    is_told = asyncio.Event()

    class Stuck(Listening):
        async def __call__(self, event: Event) -> None:
            is_told.set()
            await asyncio.Event().wait()

    delivery = rolled_forward(1000, Stuck(), Names("k" * 1000))
    await is_told.wait()
    assert Names.asked < 3
    assert delivery.undelivered_count == 1000
    delivery.drop()
    assert delivery.undelivered_count == 0


async def test_an_invocation_is_told_of_first_and_last():
    graph = wide()
    seen = await heard(graph, Items(items=[1]), Phase.INSTANCE, Phase.INVOCATION, Phase.STARTED)
    first, last = seen.events[0], seen.events[-1]
    assert isinstance(first, InvocationEvent)
    assert isinstance(last, InvocationEvent)
    assert (first.state, first.graph, last.state, last.has_ended) == ("started", graph.name, "succeeded", True)


class Reading(MemoryLedger):
    """Keeps the reports that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Report] = []
        self.briefings: list[bytes | None] = []

    def report(self, run_id: str, reports: Sequence[Report]) -> Any:
        self.seen.extend(reports)
        return super().report(run_id, reports)

    def briefing(self, run_id: str, fan_out: str) -> bytes | None:
        self.briefings.append(super().briefing(run_id, fan_out))
        return self.briefings[-1]


@pytest.mark.parametrize(
    ("phases", "wanted", "count"),
    [
        ((Phase.INSTANCE,), b'"events_wanted":["instance"]', 0),
        ((Phase.INVOCATION,), b'"events_wanted":[]', 0),
        ((Phase.CHECKPOINT_SAVED,), b'"events_wanted":[]', 0),
        ((Phase.COMPLETED,), b'"events_wanted":["completed"]', 1),
        ((Phase.STARTED, Phase.COMPLETED), b'"events_wanted":["started","completed"]', 2),
    ],
)
async def test_what_nobody_wants_does_not_travel(phases: tuple[Phase, ...], wanted: bytes, count: int):
    graph, ledger = wide(), Reading()
    runtime = Runtime(worker="me", find=lambda _name, _fingerprint: graph)
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    await heard(graph, Items(items=[1]), *phases, lane=lane)
    assert [len(report.events) for report in ledger.seen] == [count]
    assert ledger.briefings[0] is not None
    assert wanted in ledger.briefings[0]


async def test_an_observer_is_told_of_its_own_phases_unless_others_are_named():
    graph, own, named = wide(), Listening(Phase.INSTANCE), Listening(Phase.INSTANCE)
    graph.attach_observer(own)
    graph.attach_observer(named, phases=["started"])
    await graph.invoke(Items(items=[1]))
    await graph.drain()
    assert {type(event) for event in own.events} == {InstanceEvent}
    assert {type(event) for event in named.events} == {NodeEvent}


async def test_a_run_that_is_left_has_no_end_of_its_instances():
    started, seen = asyncio.Event(), Listening(Phase.INSTANCE, Phase.INVOCATION)

    async def wait(_state: Item) -> dict[str, int]:
        started.set()
        await asyncio.sleep(60)
        return {}

    graph = wide(wait)
    lane = local_lane(graph, Options(owner="me"))
    handle = await graph.start(Items(items=[1]), observers=[seen], lane=lane)
    await started.wait()
    await handle.detach()
    await graph.drain()
    await lane.executor.close()
    assert seen.states() == {(0,): ["QUEUED"]}
    assert isinstance(seen.events[-1], InvocationEvent)
    assert seen.events[-1].state == "left"
