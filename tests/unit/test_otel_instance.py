"""What is traced of an instance by the worker that runs it, and of those nested in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, TraceIdRatioBased

from backends.telemetry.otel.carrier import Origin
from backends.telemetry.otel.options import TracingOptions
from orchestrator.context import Cancellation
from orchestrator.execution.frame import Frame
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.run import run_instance
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Held
from orchestrator.observers.delivery import Delivery
from orchestrator.observers.event import Phase
from orchestrator.observers.site import node_site
from orchestrator.report import Outcome, Report
from rollforward import END, CompiledGraph, GraphBuilder, State, append
from tests.unit.one_delivery import delivery
from tests.unit.tracing import Traced, ours

ROOT, SAVE = "rollforward.invocation", "rollforward.checkpoint.save"


class Page(State):
    number: int = 0
    words: int = 0


class Book(State):
    pages: list[int] = [0, 1]
    words: Annotated[list[int], append] = []


class Shelf(State):
    books: list[list[int]] = [[0, 1], [2]]
    words: Annotated[list[list[int]], append] = []


def shelf(read: Callable[[Page], Any]) -> CompiledGraph[Shelf]:
    """Books of pages; `read` is done with every page."""

    async def reading(state: Page) -> dict[str, Any]:
        read(state)
        return {"words": 1}

    page = GraphBuilder(Page).add_node("read", reading).set_entry("read").add_edge("read", END).compile("page")
    fields: dict[str, Any] = {"collect_field": "words", "target_field": "words"}
    book = (
        GraphBuilder(Book)
        .add_fan_out_node("pages", subgraph=page, items_field="pages", item_field="number", **fields)
        .set_entry("pages")
        .add_edge("pages", END)
        .compile("book")
    )
    return (
        GraphBuilder(Shelf)
        .add_fan_out_node("books", subgraph=book, items_field="books", item_field="pages", **fields)
        .set_entry("books")
        .add_edge("books", END)
        .compile("shelf")
    )


def frame_of(graph: CompiledGraph[Any]) -> Frame:
    """The frame of an invocation of that graph that nothing runs in."""
    unused: Any = None
    return Frame(
        run_id="run",
        invocation_id="invocation",
        correlation_id="correlation",
        root=graph,
        journal=unused,
        fan_outs=unused,
        emitter=Delivery(lambda _path: iter(()), wanted=()),
    )


class Worker:
    """Runs the only book of a shelf in a task that is traced; each page makes a span of a client."""

    def __init__(self) -> None:
        self.traced = Traced(is_in_task=True)
        self.client = self.traced.observer.provider.get_tracer("client")
        self.graph = shelf(lambda _page: self.client.start_span("GET").end())

    async def run(self, *, is_traced: bool, progress: Sequence[bytes] = ()) -> tuple[Report, list[bytes]]:
        """The report of it, and what was kept meanwhile."""
        kept: list[bytes] = []

        def keep(_run_id: str, _held: Held, entries: Sequence[bytes]) -> bool:
            kept.extend(entries)
            return True

        runtime = Runtime(worker="w", find=lambda *_: self.graph, keep=in_ledger(keep), tracing=self.traced.observer)
        work, briefing = delivery(self.graph, "books", {"pages": [0, 1]}, progress=progress)
        with self.client.start_as_current_span("run") as task:
            if is_traced:
                origin = Origin(task.get_span_context(), 1, 1)
                briefing = replace(briefing, trace=origin.carrier())
            report = await run_instance(work, briefing, runtime, Cancellation())
        assert report.outcome is Outcome.SUCCEEDED
        return report, kept


async def test_of_an_invocation_that_is_not_traced_a_worker_that_traces_has_no_spans_of_clients() -> None:
    worker = Worker()
    await worker.run(is_traced=False)
    assert {span.name for span in worker.traced.spans} == {"run"}


async def test_only_the_instance_of_a_task_links_to_it() -> None:
    worker = Worker()
    await worker.run(is_traced=True)
    linked = [span for span in worker.traced.spans if span.links]
    assert [span.name for span in linked] == ["books"]
    (link,) = linked[0].links
    assert link.context.span_id == worker.traced.one("run").context.span_id


async def test_each_save_of_a_nested_instance_is_under_its_fan_out() -> None:
    worker = Worker()
    await worker.run(is_traced=True)
    saves = worker.traced.named(SAVE)
    assert [worker.traced.path(save) for save in saves] == [("run", "books", "pages", SAVE)] * 2
    assert {(ours(save)["checkpoint_save_kind"], ours(save)["node_fan_out_index"]) for save in saves} == {
        ("instance", 0),
        ("instance", 1),
    }


async def test_there_are_as_many_saves_in_a_trace_as_observers_are_told_of() -> None:
    told: list[Any] = []

    class Saves:
        phases = frozenset({Phase.CHECKPOINT_SAVED})

        async def __call__(self, event: Any) -> None:
            told.append(event)

    traced, graph = Traced(), shelf(lambda _page: None)
    await graph.invoke(observers=[traced.observer, Saves()])
    await graph.drain()
    assert len(traced.named(SAVE)) == len(told)


async def test_a_nested_fan_out_says_how_many_were_found() -> None:
    worker = Worker()
    _, kept = await worker.run(is_traced=True)
    await worker.run(is_traced=True, progress=kept)
    fan_outs = [ours(span) for span in worker.traced.named("pages") if "fan_out_item_count" in ours(span)]
    assert [one["fan_out_rolled_forward"] for one in fan_outs] == [0, 2]


@pytest.mark.parametrize(("most", "leaves"), [(10, 10), (3, 3), (1, 1), (0, 0)])
async def test_most_instances_holds_for_nested_ones_too(most: int, leaves: int) -> None:
    traced, graph = Traced(most_instances=most), shelf(lambda _page: None)
    await graph.invoke(Shelf(books=[list(range(12))] * 12), observers=[traced.observer])
    assert len(traced.named("read")) == leaves


@pytest.mark.parametrize("sampler", [ALWAYS_ON, TraceIdRatioBased(1.0)])
async def test_what_is_not_traced_leaves_no_span_of_a_client_whatever_the_sampler(sampler: Sampler) -> None:
    traced = Traced(sampler=sampler, most_instances=1)
    client = traced.observer.provider.get_tracer("client")

    def read(_page: Page) -> None:
        with client.start_as_current_span("GET"):
            client.start_span("connect").end()

    await shelf(read).invoke(observers=[traced.observer])
    assert [len(traced.named(name)) for name in ("read", "GET", "connect")] == [1, 1, 1]


async def test_an_invocation_inside_an_instance_that_is_not_traced_is_a_trace_of_its_own() -> None:
    traced = Traced(sampler=ALWAYS_ON, most_instances=0, saves=False)

    async def read(_state: Page) -> dict[str, Any]:
        return {}

    inner = GraphBuilder(Page).add_node("read", read).set_entry("read").add_edge("read", END).compile("inner")

    async def ask(_state: Page) -> dict[str, Any]:
        await inner.invoke(observers=[traced.observer])
        return {}

    asking = GraphBuilder(Page).add_node("ask", ask).set_entry("ask").add_edge("ask", END).compile("asking")
    outer = (
        GraphBuilder(Book)
        .add_fan_out_node(
            "each",
            subgraph=asking,
            items_field="pages",
            item_field="number",
            collect_field="words",
            target_field="words",
        )
        .set_entry("each")
        .add_edge("each", END)
        .compile("outer")
    )
    await outer.invoke(observers=[traced.observer])
    assert sorted(map(sorted, traced.traces())) == [["each", ROOT], ["read", ROOT], ["read", ROOT]]


def test_a_share_of_most_instances_is_left_for_those_inside() -> None:
    options = TracingOptions(most_instances=10)
    assert [options.inside(traced).most_instances for traced in (0, 1, 4, 10, 20)] == [10, 10, 2, 1, 1]


@pytest.mark.parametrize(
    ("ran", "recorded", "linked"),
    [([1], 1, 1), ([2], 2, 2), ([1, 2], 1, 1), ([1, 2], 2, 2), ([1, 2], None, 2)],
    ids=["alone", "the first is lost", "the first wakes up", "the first comes late", "cancelled"],
)
async def test_the_link_to_a_detached_instance_is_to_the_delivery_that_counted(
    ran: Sequence[int], recorded: int | None, linked: int
) -> None:
    traced, graph = Traced(detached_fan_outs={"books"}, saves=False), shelf(lambda _page: None)
    frame = frame_of(graph)
    node = traced.observer.node(
        node_site(frame, "books", subject=graph.fan_out_at(["books"])), traced.observer.invocation(frame)
    )
    work, briefing = delivery(graph, "books", {"pages": [0]})
    briefing = replace(briefing, trace=node.carrier(1))
    runtime = Runtime(worker="w", find=lambda *_: graph, tracing=traced.observer)
    for number in range(1, ran[-1] + 1):
        node.dispatched(0, number)
    for number in ran:
        await run_instance(replace(work, delivery=number), briefing, runtime, Cancellation())
    if recorded is not None:
        node.saved(0, recorded)
    node.end()
    (fan_out,) = [span for span in traced.named("books") if "fan_out_parent_node_name" not in ours(span)]
    root = traced.parent(traced.one("books", delivery_attempt=linked))
    assert root is not None
    assert [link.context.span_id for link in fan_out.links] == [root.context.span_id]
    assert len({span.context.span_id for span in traced.spans}) == len(traced.spans)
