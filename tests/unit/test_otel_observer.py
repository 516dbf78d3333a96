"""Every span is under what it belongs to, however many runs, instances and attempts share one observer."""

import asyncio
import gc
import sys
import warnings
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult

from orchestrator.execution.frame import Frame
from orchestrator.middleware.retry import RetryConfig, RetryMiddleware, deterministic_backoff
from orchestrator.observers.delivery import Delivery
from rollforward import END, BranchSpec, CompiledGraph, GraphBuilder, NodeException, State, TracingOptions, append
from tests.unit.tracing import CALL, Traced, call_model, ours, status

RETRY = RetryMiddleware(RetryConfig(max_attempts=3, classifier=lambda *_: True, backoff=deterministic_backoff(0)))


class Item(State):
    number: int = 0
    answer: int = 0


class Items(State):
    numbers: list[int] = [0, 1, 2, 3, 4]
    answers: Annotated[list[int], append] = []
    errors: list[dict[str, str]] = []
    total: int = 0


async def ask(state: Item) -> dict[str, Any]:
    # What begins together interleaves.
    await asyncio.sleep(0.002 * (5 - state.number % 5))
    call_model()
    await asyncio.sleep(0)
    if state.number < 0:
        raise ValueError(f"{state.number} is below zero")
    return {"answer": state.number * 2}


async def add(state: Items) -> dict[str, Any]:
    return {"total": sum(state.answers)}


def asking(**options: Any) -> CompiledGraph[Items]:
    inner = GraphBuilder(Item).add_node("ask", ask, middleware=options.pop("around", ())).set_entry("ask")
    collected: dict[str, Any] = {"errors_field": "errors"} if options.get("error_policy") == "collect" else {}
    return (
        GraphBuilder(Items)
        .add_fan_out_node(
            "each",
            subgraph=inner.compile(name="asking"),
            items_field="numbers",
            item_field="number",
            collect_field="answer",
            target_field="answers",
            **collected,
            **options,
        )
        .add_node("add", add)
        .set_entry("each")
        .add_edge("each", "add")
        .add_edge("add", END)
        .compile(name="askings")
    )


def each(inner: CompiledGraph[Item], **options: Any) -> GraphBuilder[Items]:
    """A graph of one node, which runs the inner one for each number."""
    fields = {"items_field": "numbers", "item_field": "number", "collect_field": "answer", "target_field": "answers"}
    told: dict[str, Any] = {**fields, **options}
    return GraphBuilder(Items).add_fan_out_node("each", subgraph=inner, **told).set_entry("each")


def linear() -> CompiledGraph[Items]:
    return (
        GraphBuilder(Items).add_node("a", add).add_node("b", add).set_entry("a").add_edge("a", "b").compile(name="ab")
    )


async def test_shared_observer_concurrent_invocations_dont_collide() -> None:
    traced, graph = Traced(saves=False), linear()
    await asyncio.gather(*(graph.invoke(observers=[traced.observer]) for _ in range(5)))
    assert list(traced.traces()) == [{"rollforward.invocation", "a", "b"}] * 5
    assert len(traced.spans) == 15


async def test_concurrent_fan_out_no_lifo_violation() -> None:
    traced = Traced()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await asking().invoke(observers=[traced.observer])
    assert len(traced.named("ask")) == 5


async def test_concurrent_fan_out_llm_spans_parent_under_calling_instance() -> None:
    traced = Traced()
    await asking(concurrency=None).invoke(observers=[traced.observer])
    calls = traced.named(CALL)
    assert {traced.path(call) for call in calls} == {("rollforward.invocation", "each", "each", "ask", CALL)}
    indexes = {ours(traced.parent(call))["node_fan_out_index"] for call in calls}  # type: ignore[arg-type] # it has one
    assert indexes == {0, 1, 2, 3, 4}


async def test_llm_call_inside_retried_node_parents_per_attempt() -> None:
    attempts = 0

    async def flaky(_state: Items) -> dict[str, Any]:
        nonlocal attempts
        attempts += 1
        call_model()
        if attempts < 3:
            raise ValueError("not yet")
        return {}

    traced = Traced()
    await (
        GraphBuilder(Items)
        .add_node("flaky", flaky, middleware=[RETRY])
        .set_entry("flaky")
        .compile()
        .invoke(observers=[traced.observer])
    )
    parents = [traced.parent(call) for call in traced.named(CALL)]
    assert [ours(parent)["node_attempt_index"] for parent in parents if parent] == [0, 1, 2]
    assert [status(span)[0] for span in traced.named("flaky")] == ["ERROR", "ERROR", "OK"]


async def test_an_attempt_ends_when_it_raised_and_not_when_the_next_begins() -> None:
    async def failing(_state: Items) -> dict[str, Any]:
        raise ValueError("never")

    waiting = RetryConfig(max_attempts=2, classifier=lambda *_: True, backoff=deterministic_backoff(0.2))
    traced = Traced()
    graph = GraphBuilder(Items).add_node("failing", failing, middleware=[RetryMiddleware(waiting)]).set_entry("failing")
    with pytest.raises(Exception, match="never"):
        await graph.compile().invoke(observers=[traced.observer])
    first, second = traced.named("failing")
    assert (first.end_time or 0) + 0.1e9 < (second.start_time or 0)


async def test_a_thousand_invocations_leave_nothing() -> None:
    traced, graph = Traced(), linear()

    async def invoke() -> None:
        await graph.invoke(observers=[traced.observer])
        traced.forget()

    for _ in range(20):
        await invoke()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        await invoke()
    await asyncio.gather(*(invoke() for _ in range(50)))
    gc.collect()
    assert traced.observer.open_invocations == ()
    assert (traced.observer._open._open, traced.observer._open._watched) == ({}, {})
    # Whatever was kept of each would take several.
    assert sys.getallocatedblocks() - before < 1050


def test_what_an_orchestrator_left_open_that_is_gone_is_ended() -> None:
    traced = Traced()
    traced.observer.invocation(_frame())
    gc.collect()
    assert traced.observer.open_invocations == ()
    assert [status(span) for span in traced.spans] == [("ERROR", "cancelled")]


async def test_a_failed_instance_and_its_node_are_errors_and_a_fan_out_that_collects_is_none() -> None:
    traced = Traced()
    await asking(error_policy="collect").invoke(Items(numbers=[-1]), observers=[traced.observer])
    assert status(traced.one("ask")) == ("ERROR", "node_exception")
    instance, node = sorted(traced.named("each"), key=lambda span: "outcome" not in ours(span))
    assert (status(instance), ours(instance)["outcome"]) == (("ERROR", "node_exception"), "failed")
    assert status(node) == status(traced.one("rollforward.invocation")) == ("OK", None)


async def test_an_invocation_is_an_error_only_where_it_raised() -> None:
    traced = Traced()
    with pytest.raises(NodeException):
        await asking().invoke(Items(numbers=[-1]), observers=[traced.observer])
    root = traced.one("rollforward.invocation")
    assert status(root) == ("ERROR", "node_exception")
    (told,) = [event for event in root.events if event.name == "exception"]
    assert "-1 is below zero" in str((told.attributes or {})["exception.message"])


async def test_a_secret_in_an_error_does_not_stand_on_a_span() -> None:
    async def careless(_state: Items) -> dict[str, Any]:
        raise ValueError("password=hunter2 was refused")

    traced = Traced()
    with pytest.raises(NodeException):
        await (
            GraphBuilder(Items)
            .add_node("careless", careless)
            .set_entry("careless")
            .compile()
            .invoke(observers=[traced.observer])
        )
    assert "hunter2" not in str([span.to_json() for span in traced.spans])


async def test_of_a_wide_fan_out_so_many_instances_are_traced_evenly() -> None:
    traced = Traced(most_instances=4)
    await asking().invoke(Items(numbers=list(range(100))), observers=[traced.observer])
    assert sorted(ours(span)["node_fan_out_index"] for span in traced.named("ask")) == [24, 49, 74, 99]
    assert len(traced.named(CALL)) == 4
    saves = [ours(span) for span in traced.named("rollforward.checkpoint.save")]
    assert len([one for one in saves if one["checkpoint_save_kind"] == "instance"]) == 4


@pytest.mark.parametrize(("share", "count", "traced"), [(0.01, 5000, 50), (0.01, 3, 1), (0.0, 100, 0), (1.0, 7, 7)])
def test_a_share_of_the_instances_is_traced_and_one_at_least(share: float, count: int, traced: int) -> None:
    assert TracingOptions(instance_share=share).traced(count) == traced


async def test_an_instrumented_client_is_traced_under_the_attempt_and_not_where_its_instance_is_not() -> None:
    traced = Traced(most_instances=1)
    client = traced.observer.provider.get_tracer("client")

    async def fetch(_state: Item) -> dict[str, Any]:
        client.start_span("GET").end()
        return {}

    inner = GraphBuilder(Item).add_node("fetch", fetch).set_entry("fetch").compile()
    graph = each(inner).compile()
    await graph.invoke(observers=[traced.observer], correlation_id="mine")
    got = traced.one("GET")
    assert traced.path(got) == ("rollforward.invocation", "each", "each", "fetch", "GET")
    assert ours(got)["correlation_id"] == "mine"


async def test_a_plain_function_is_traced_in_its_thread() -> None:
    traced = Traced()

    def plain(_state: Items) -> dict[str, Any]:
        call_model()
        return {}

    await GraphBuilder(Items).add_node("plain", plain).set_entry("plain").compile().invoke(observers=[traced.observer])
    assert traced.path(traced.one(CALL)) == ("rollforward.invocation", "plain", CALL)


async def test_each_save_is_under_the_node_that_caused_it() -> None:
    traced = Traced()
    await asking().invoke(Items(numbers=[1, 2]), observers=[traced.observer])
    saves = traced.named("rollforward.checkpoint.save")
    assert sorted(traced.path(save)[-2] for save in saves) == ["add", "each", "each", "each"]
    assert all(save.start_time == save.end_time for save in saves)


async def test_a_detached_fan_out_is_linked_also_by_its_second_attempt() -> None:
    calls = 0

    async def fails_once(state: Item) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("once")
        return {"answer": state.number}

    inner = GraphBuilder(Item).add_node("ask", fails_once).set_entry("ask").compile()
    graph = each(inner, middleware=[RETRY]).compile()
    traced = Traced(detached_fan_outs={"each"})
    await graph.invoke(Items(numbers=[7]), observers=[traced.observer])
    first, second = [span for span in traced.named("each") if "fan_out_item_count" in ours(span)]
    roots = [span for span in traced.named("rollforward.invocation") if "outcome" in ours(span)]
    assert [ours(span)["node_attempt_index"] for span in (first, second)] == [0, 1]
    linked = [[link.context.span_id for link in span.links] for span in (first, second)]
    assert sorted(linked) == sorted([root.context.span_id] for root in roots)
    assert len({root.context.trace_id for root in roots} | {first.context.trace_id}) == 3


async def test_a_branch_and_what_is_in_it_is_under_the_node_that_dispatched_it() -> None:
    inner = GraphBuilder(Item).add_node("ask", ask).set_entry("ask").compile()
    branches = {"left": BranchSpec(subgraph=inner), "right": BranchSpec(call=add)}
    traced = Traced()
    await (
        GraphBuilder(Items)
        .add_parallel_branches_node("both", branches=branches)
        .set_entry("both")
        .compile()
        .invoke(observers=[traced.observer])
    )
    assert traced.path(traced.one("ask")) == ("rollforward.invocation", "both", "left", "ask")
    assert traced.path(traced.one("right")) == ("rollforward.invocation", "both", "right")
    assert ours(traced.one("both"))["parallel_branches_branch_count"] == 2


async def test_an_invocation_links_to_the_span_that_called_for_it() -> None:
    traced = Traced()
    with traced.observer.provider.get_tracer("caller").start_as_current_span("request") as request:
        await linear().invoke(observers=[traced.observer])
    root = traced.one("rollforward.invocation")
    assert root.parent is None
    assert [link.context.span_id for link in root.links] == [request.get_span_context().span_id]


async def test_a_processor_that_fails_does_not_disturb_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("broken")

        def on_end(self, span: Any) -> None:
            raise RuntimeError("broken")

    last = await asking().invoke(observers=[Traced(Broken()).observer])
    assert last.total == 20
    assert "not traced" in caplog.text


async def test_a_processor_that_fails_at_the_end_of_a_span_leaves_nothing_open() -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: Any) -> None:
            raise RuntimeError("broken")

    traced = Traced(Broken())
    await asking().invoke(observers=[traced.observer])
    assert traced.observer.open_invocations == ()


async def test_one_fan_out_does_not_lend_its_context_to_the_instances_of_another() -> None:
    said: ContextVar[str] = ContextVar("said", default="")
    heard: set[tuple[int, str]] = set()

    async def listen(state: Item) -> dict[str, Any]:
        heard.add((state.number, said.get()))
        await asyncio.sleep(0.01)
        return {"answer": 0}

    def side(name: str) -> BranchSpec:
        async def say(state: Any, call: Any) -> Any:
            said.set(name)
            return await call(state)

        inner = GraphBuilder(Item).add_node("listen", listen).set_entry("listen").compile()
        fan_out = each(inner)
        return BranchSpec(subgraph=fan_out.compile(), middleware=[say])

    both = {"left": side("left"), "right": side("right")}
    await GraphBuilder(Items).add_parallel_branches_node("both", branches=both).set_entry("both").compile().invoke()
    assert heard == {(number, "") for number in range(5)}


async def test_of_an_invocation_that_is_not_sampled_no_client_is_traced() -> None:
    class AllButOurs(Sampler):
        """Drops invocations, and takes whatever else begins a trace."""

        def should_sample(self, parent_context: Any, trace_id: int, name: str, *told: Any, **more: Any) -> Any:
            is_ours = name == "rollforward.invocation"
            return SamplingResult(Decision.DROP if is_ours else Decision.RECORD_AND_SAMPLE)

        def get_description(self) -> str:
            return "all but ours"

    traced = Traced(sampler=ParentBased(AllButOurs()))
    client = traced.observer.provider.get_tracer("client")

    async def fetch(_state: Item) -> dict[str, Any]:
        client.start_span("GET").end()
        return {}

    inner = GraphBuilder(Item).add_node("fetch", fetch).set_entry("fetch").compile()
    await each(inner).compile().invoke(observers=[traced.observer])
    assert traced.spans == ()


async def test_what_is_detached_from_a_sampled_trace_is_sampled() -> None:
    class First(Sampler):
        """Takes the first trace that begins."""

        def __init__(self) -> None:
            self.is_over = False

        def should_sample(self, *told: Any, **more: Any) -> SamplingResult:
            took, self.is_over = not self.is_over, True
            return SamplingResult(Decision.RECORD_AND_SAMPLE if took else Decision.DROP)

        def get_description(self) -> str:
            return "first"

    traced = Traced(sampler=ParentBased(First()), detached_fan_outs={"each"})
    await asking().invoke(observers=[traced.observer])
    assert len(traced.named("rollforward.invocation")) == 6


async def test_what_is_attached_to_a_graph_traces_its_invocations() -> None:
    traced, graph = Traced(), linear()
    handle = graph.attach_observer(traced.observer)
    await graph.invoke()
    handle.remove()
    await graph.invoke()
    assert len(traced.named("rollforward.invocation")) == 1


async def test_two_that_trace_the_same_invocation_are_refused() -> None:
    with pytest.raises(ValueError, match="two observers trace"):
        await linear().invoke(observers=[Traced().observer, Traced().observer])


def _frame() -> Frame:
    """The frame of an invocation whose orchestrator nobody knows any more."""
    unused: Any = None
    return Frame(
        run_id="run",
        invocation_id="invocation",
        correlation_id="correlation",
        root=linear(),
        journal=unused,
        fan_outs=unused,
        emitter=Delivery(lambda _path: iter(()), wanted=()),
    )
