"""What observers are told of calls of models, and of whose attempt."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import httpx
import pytest

from backends.llm.chat import OpenAIChat
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import NodeException
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.graph.node import BranchSpec
from orchestrator.llm.event import LlmCompletionEvent, LlmEvent, LlmFailedEvent, Usage
from orchestrator.middleware.cause_chain import error_record
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.observers.event import Event, NodeEvent, Phase
from orchestrator.reducer import append
from orchestrator.state import State
from orchestrator.wire.event import decode, encode
from tests.service.chat_server import said

ASK = [{"role": "user", "content": "x"}]
SECRET = "sk-" + "a" * 30
TWICE = RetryMiddleware(max_attempts=2, backoff=deterministic_backoff(0))


class One(State):
    item: int = 0
    text: str = ""


class Many(State):
    items: list[int] = []
    texts: Annotated[list[str], append] = []


class Most(State):
    lists: list[list[int]] = []
    texts: Annotated[list[list[str]], append] = []


class Recording:
    """An observer that keeps what it is told."""

    phases = (Phase.STARTED, Phase.COMPLETED, Phase.LLM)

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    def calls(self) -> list[LlmEvent]:
        return [event for event in self.events if isinstance(event, LlmEvent)]

    def completions(self) -> list[LlmCompletionEvent]:
        return [event for event in self.events if isinstance(event, LlmCompletionEvent)]


def answering(answer: Callable[[str], httpx.Response], **options: Any) -> OpenAIChat:
    def handle(request: httpx.Request) -> httpx.Response:
        return answer(json.loads(request.content)["messages"][-1]["content"])

    return OpenAIChat("http://api.example/v1", "asked-model", transport=httpx.MockTransport(handle), **options)


def ok(prompt: str) -> httpx.Response:
    return httpx.Response(200, json=said(f"about {prompt}", model="answered-model", id="c-1").body)


def once_refused() -> Callable[[str], httpx.Response]:
    asked: set[str] = set()

    def answer(prompt: str) -> httpx.Response:
        if prompt in asked:
            return ok(prompt)
        asked.add(prompt)
        return httpx.Response(503)

    return answer


async def asynchronously(chat: OpenAIChat, prompt: str, **parameters: Any) -> str | None:
    return (await chat.complete([{"role": "user", "content": prompt}], **parameters)).text


async def in_a_thread(chat: OpenAIChat, prompt: str, **parameters: Any) -> str | None:
    messages = [{"role": "user", "content": prompt}]
    return (await asyncio.to_thread(chat.complete_sync, messages, **parameters)).text


def asking(chat: OpenAIChat, how: Any = asynchronously, **parameters: Any) -> Any:
    async def ask(state: One) -> dict[str, str]:
        return {"text": await how(chat, str(state.item), **parameters) or ""}

    return ask


def asking_plainly(chat: OpenAIChat, **parameters: Any) -> Any:
    def ask(state: One) -> dict[str, str]:
        messages = [{"role": "user", "content": str(state.item)}]
        return {"text": chat.complete_sync(messages, **parameters).text or ""}

    return ask


def one(node: Any, *middleware: Any) -> CompiledGraph[One]:
    builder = GraphBuilder(One).add_node("ask", node, middleware=middleware)
    return builder.set_entry("ask").add_edge("ask", END).compile()


def many(node: Any, *middleware: Any, around: Any = ()) -> CompiledGraph[Many]:
    builder = GraphBuilder(Many).add_fan_out_node(
        "each",
        subgraph=one(node, *middleware),
        items_field="items",
        item_field="item",
        collect_field="text",
        target_field="texts",
        concurrency=8,
        instance_middleware=around,
    )
    return builder.set_entry("each").add_edge("each", END).compile()


async def told(graph: CompiledGraph[Any], state: State) -> Recording:
    seen = Recording()
    try:
        await graph.invoke(state, observers=[seen])
    finally:
        await graph.drain()
    return seen


@pytest.mark.parametrize("make", [asking, asking_plainly])
async def test_an_observer_is_told_what_was_asked_and_answered(make: Any) -> None:
    node = make(answering(ok), temperature=0.5, seed=7, user="me")
    seen = await told(one(node), One())
    (event,) = seen.completions()
    assert (event.namespace, event.step, event.attempt_index) == (("ask",), 0, 0)
    assert (event.provider, event.model, event.response_model) == ("openai", "asked-model", "answered-model")
    assert (event.response_id, event.finish_reason) == ("c-1", "stop")
    assert event.usage == Usage(prompt_tokens=5, completion_tokens=1, total_tokens=6)
    assert event.parameters == {"temperature": 0.5, "seed": 7}
    assert (event.call_attempt_index, event.messages, event.text) == (0, None, None)
    assert event.duration_seconds > 0
    of_node = next(one for one in seen.events if isinstance(one, NodeEvent))
    facts = ("run_id", "invocation_id", "correlation_id", "namespace", "step")
    assert [getattr(event, name) for name in facts] == [getattr(of_node, name) for name in facts]


@pytest.mark.parametrize(
    "node", [asking(answering(ok)), asking(answering(ok), in_a_thread), asking_plainly(answering(ok))]
)
async def test_a_call_is_told_between_the_start_and_the_end_of_its_attempt(node: Any) -> None:
    seen = await told(one(node), One())
    kinds = [one.phase if isinstance(one, NodeEvent) else type(one) for one in seen.events]
    assert kinds == [Phase.STARTED, LlmCompletionEvent, Phase.COMPLETED]


@pytest.mark.parametrize("make", [asking, asking_plainly])
async def test_each_attempt_of_each_instance_tells_of_its_own_call(make: Any) -> None:
    seen = await told(many(make(answering(once_refused())), TWICE), Many(items=list(range(8))))
    places = [(event.fan_out_index_chain, event.attempt_index, type(event)) for event in seen.calls()]
    expected = [((index,), attempt, kind) for index in range(8) for attempt, kind in _KINDS]
    assert sorted(places, key=str) == sorted(expected, key=str)
    assert {event.namespace for event in seen.calls()} == {("each", "ask")}


_KINDS = ((0, LlmFailedEvent), (1, LlmCompletionEvent))


async def test_nested_instances_are_told_apart() -> None:
    graph = (
        GraphBuilder(Most)
        .add_fan_out_node(
            "outer",
            subgraph=many(asking(answering(ok))),
            items_field="lists",
            item_field="items",
            collect_field="texts",
            target_field="texts",
        )
        .set_entry("outer")
        .add_edge("outer", END)
        .compile()
    )
    seen = await told(graph, Most(lists=[[1, 2], [3, 4]]))
    chains = sorted(event.fan_out_index_chain for event in seen.calls())
    assert chains == [(0, 0), (0, 1), (1, 0), (1, 1)]


async def test_branches_are_told_apart() -> None:
    branch = one(asking(answering(ok)))
    branches = {name: BranchSpec(subgraph=branch) for name in ("left", "right")}
    builder = GraphBuilder(One).add_parallel_branches_node("fork", branches=branches)
    seen = await told(builder.set_entry("fork").add_edge("fork", END).compile(), One())
    assert sorted(event.branch_name or "" for event in seen.calls()) == ["left", "right"]


async def test_middleware_of_a_node_tells_of_the_node() -> None:
    chat = answering(ok)

    async def guard(state: Any, call_next: Any) -> Any:
        await chat.complete(ASK)
        return await call_next(state)

    async def nothing(_state: One) -> dict[str, str]:
        return {"text": "x"}

    seen = await told(many(nothing, guard), Many(items=[1, 2]))
    assert sorted((event.namespace, event.fan_out_index) for event in seen.calls()) == [
        (("each", "ask"), 0),
        (("each", "ask"), 1),
    ]


async def test_middleware_of_instances_tells_of_the_instance() -> None:
    chat = answering(ok)

    async def guard(state: Any, call_next: Any) -> Any:
        await chat.complete(ASK)
        return await call_next(state)

    async def nothing(_state: One) -> dict[str, str]:
        return {"text": "x"}

    seen = await told(many(nothing, around=(guard,)), Many(items=[1, 2]))
    assert sorted((event.namespace, event.fan_out_index_chain) for event in seen.calls()) == [
        (("each",), (0,)),
        (("each",), (1,)),
    ]


async def test_a_failure_says_what_came_of_the_call_and_what_it_took() -> None:
    seen = Recording()
    with pytest.raises(NodeException):
        await one(asking(answering(ok), response_model=One)).invoke(One(), observers=[seen])
    (event,) = seen.calls()
    assert isinstance(event, LlmFailedEvent)
    assert (event.error.category, event.error.type) == ("structured_output_invalid", "StructuredOutputInvalid")
    assert event.usage.total_tokens == 6


async def test_only_those_who_ask_are_told() -> None:
    told_of_all: list[Event] = []

    async def observer(event: Event) -> None:
        told_of_all.append(event)

    graph, seen = many(asking(answering(ok))), Recording()
    await graph.invoke(Many(items=[1]), observers=[observer, seen])
    await graph.drain()
    assert seen.calls()
    assert told_of_all
    assert not any(isinstance(event, LlmEvent) for event in told_of_all)


async def test_payload_is_told_where_it_is_asked_for_without_secrets_and_cut() -> None:
    def long(_prompt: str) -> httpx.Response:
        return httpx.Response(200, json=said("Bearer abcdefghijkl " + "é" * 500).body)

    messages: list[dict[str, Any]] = [{"role": "system", "content": f"be {SECRET}"}]
    messages.append({"role": "user", "content": [{"type": "text", "text": f"it's {SECRET}"}, {"type": "image_url"}]})

    async def ask(_state: One) -> dict[str, str]:
        await answering(long, payload=True, payload_max_bytes=160).complete(messages)
        return {}

    seen = await told(one(ask), One())
    (event,) = seen.completions()
    parts = [{"type": "text", "content": "it's ***"}, {"type": "image_url"}]
    system = {"role": "system", "parts": [{"type": "text", "content": "be ***"}]}
    assert json.loads(event.messages or "") == [system, {"role": "user", "parts": parts}]
    assert event.text is not None
    assert event.text.startswith("Bearer *** é")
    assert event.text.endswith("é[...]")
    assert len(event.text.encode()) <= 160


PLACE: dict[str, Any] = {
    "run_id": "r",
    "invocation_id": "i",
    "correlation_id": "c",
    "namespace": ("each", "ask"),
    "fan_out_index_chain": (3,),
    "branch_name_chain": (None,),
    "attempt_index": 1,
    "step": 4,
    "provider": "openai",
    "model": "m",
    "duration_seconds": 0.5,
    "parameters": {"temperature": 0.5, "stop": ("a", "b"), "seed": 1, "reasoning_effort": "low"},
}
COMPLETED = LlmCompletionEvent(**PLACE, usage=Usage(total_tokens=5), text="\udcff", finish_reason="stop")
FAILED = LlmFailedEvent(**PLACE, messages="[]", error=error_record(ValueError("no"), with_traceback=False))


def travelled(text: str) -> Event:
    """The event as the orchestrator reads it, whose steps are 10 later."""
    graph = many(asking(answering(ok)))
    invoked = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    return decode(text, graph, invoked=invoked, parents=[Many()], step_of=lambda own: own + 10)[0]


@pytest.mark.parametrize("event", [COMPLETED, FAILED], ids=["completed", "failed"])
def test_a_call_travels_whole(event: LlmEvent) -> None:
    assert travelled(encode(event, ("each",))) == replace(event, step=14)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", 7), ("usage", [1, 2, -0.5]), ("parameters", {"seed": {}}), ("step", "0"), ("text", [])],
)
def test_what_is_no_call_is_refused(field: str, value: Any) -> None:
    told = json.loads(encode(COMPLETED, ("each",)))
    with pytest.raises(ValueError, match="not"):
        travelled(json.dumps({**told, field: value}))
