"""What is told of calls of models, and whose attempt each is under."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from backends.llm.chat import OpenAIChat
from backends.llm.error import ProviderError
from backends.telemetry.otel.observer import OTelObserver
from orchestrator.compiled import CompiledGraph
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.reducer import append
from orchestrator.state import State
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


def answering(answer: Callable[[str], httpx.Response], **options: Any) -> OpenAIChat:
    def handle(request: httpx.Request) -> httpx.Response:
        return answer(json.loads(request.content)["messages"][-1]["content"])

    return OpenAIChat("http://api.example/v1", "asked-model", transport=httpx.MockTransport(handle), **options)


def ok(prompt: str) -> httpx.Response:
    return httpx.Response(200, json=said(f"about {prompt}", model="answered-model", id="c-1").body)


def asking(chat: OpenAIChat, *, is_plain: bool = False, **parameters: Any) -> Any:
    async def ask(state: One) -> dict[str, str]:
        completion = await chat.complete([{"role": "user", "content": str(state.item)}], **parameters)
        return {"text": completion.text or ""}

    def ask_plainly(state: One) -> dict[str, str]:
        completion = chat.complete_sync([{"role": "user", "content": str(state.item)}], **parameters)
        return {"text": completion.text or ""}

    return ask_plainly if is_plain else ask


def one(node: Any, *middleware: Any) -> CompiledGraph[One]:
    builder = GraphBuilder(One).add_node("ask", node, middleware=middleware)
    return builder.set_entry("ask").add_edge("ask", END).compile()


def many(node: Any, *middleware: Any) -> CompiledGraph[Many]:
    builder = GraphBuilder(Many).add_fan_out_node(
        "each",
        subgraph=one(node, *middleware),
        items_field="items",
        item_field="item",
        collect_field="text",
        target_field="texts",
        error_policy="collect",
        concurrency=8,
    )
    return builder.set_entry("each").add_edge("each", END).compile()


class Seen:
    """The spans of some runs, by what they are."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.observer = OTelObserver(SimpleSpanProcessor(self._exporter))

    def calls(self) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == "rollforward.llm.complete"]

    def parent(self, span: ReadableSpan) -> ReadableSpan:
        spans = {one.context.span_id: one for one in self._exporter.get_finished_spans() if one.context}
        assert span.parent is not None
        return spans[span.parent.span_id]


@pytest.fixture
def seen() -> Seen:
    return Seen()


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("is_plain", [False, True])
async def test_a_call_has_a_span_with_what_was_asked_and_answered(seen: Seen, is_plain: bool) -> None:
    parameters = {"temperature": 0.5, "max_tokens": 9, "stop": "END", "user": "me"}
    await one(asking(answering(ok), is_plain=is_plain, **parameters)).invoke(One(), observers=[seen.observer])
    (call,) = seen.calls()
    assert seen.parent(call).name == "ask"
    told = facts(call)
    correlation_id = told.pop("rollforward.correlation_id")
    assert correlation_id == facts(seen.parent(call))["rollforward.correlation_id"]
    assert told == {
        "rollforward.llm.model": "asked-model",
        "rollforward.llm.attempt_index": 0,
        "rollforward.llm.finish_reason": "stop",
        "rollforward.llm.usage.prompt_tokens": 5,
        "rollforward.llm.usage.completion_tokens": 1,
        "rollforward.llm.usage.total_tokens": 6,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.output.type": "text",
        "gen_ai.request.model": "asked-model",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.model": "answered-model",
        "gen_ai.response.id": "c-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 1,
        "server.address": "api.example",
        "server.port": 80,
    }
    assert call.status.is_ok


async def test_a_call_that_failed_has_an_error_with_its_category(seen: Seen) -> None:
    chat = answering(lambda _: httpx.Response(429))
    with pytest.raises(Exception, match="is asked too much"):
        await one(asking(chat)).invoke(One(), observers=[seen.observer])
    (call,) = seen.calls()
    assert not call.status.is_ok
    assert facts(call)["error.type"] == "provider_rate_limit"
    assert "gen_ai.response.model" not in facts(call)


async def test_an_answer_that_cannot_be_used_is_a_failure_that_took_tokens(seen: Seen) -> None:
    with pytest.raises(Exception, match="does not fit"):
        await one(asking(answering(ok), response_model=One)).invoke(One(), observers=[seen.observer])
    (call,) = seen.calls()
    told = facts(call)
    assert (told["error.type"], told["gen_ai.usage.input_tokens"]) == ("structured_output_invalid", 5)
    assert told["gen_ai.output.type"] == "json"


async def test_a_call_that_is_given_up_ends_its_span(seen: Seen) -> None:
    async def never(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    chat = OpenAIChat("http://api.example/v1", "m", transport=httpx.MockTransport(never))

    async def ask(_state: One) -> dict[str, str]:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(chat.complete(ASK), 0.01)
        return {}

    await one(ask).invoke(One(), observers=[seen.observer])
    (call,) = seen.calls()
    assert facts(call)["error.type"] == "cancelled"


async def test_each_call_is_under_the_attempt_that_made_it(seen: Seen) -> None:
    asked: dict[str, int] = {}

    def second_time(prompt: str) -> httpx.Response:
        asked[prompt] = asked.get(prompt, 0) + 1
        return httpx.Response(503) if asked[prompt] == 1 else ok(prompt)

    graph = many(asking(answering(second_time)), TWICE)
    await graph.invoke(Many(items=list(range(8))), observers=[seen.observer])
    parents = [seen.parent(call) for call in seen.calls()]
    assert {one.name for one in parents} == {"ask"}
    places = [
        (facts(one)["rollforward.node.fan_out_index"], facts(one)["rollforward.node.attempt_index"]) for one in parents
    ]
    assert sorted(places) == [(index, attempt) for index in range(8) for attempt in range(2)]
    errors = {facts(seen.parent(call))["rollforward.node.attempt_index"]: call.status.is_ok for call in seen.calls()}
    assert errors == {0: False, 1: True}


async def test_an_instrumented_client_is_traced_under_the_call(seen: Seen) -> None:
    around: list[int] = []

    def look(prompt: str) -> httpx.Response:
        around.append(trace.get_current_span().get_span_context().span_id)
        return ok(prompt)

    await one(asking(answering(look))).invoke(One(), observers=[seen.observer])
    assert around == [call.context.span_id for call in seen.calls() if call.context]


async def test_a_call_by_middleware_is_beside_the_attempt(seen: Seen) -> None:
    chat = answering(ok)

    async def guard(state: One, call_next: Any) -> Any:
        await chat.complete([{"role": "user", "content": "guard"}])
        return await call_next(state)

    async def nothing(_state: One) -> dict[str, str]:
        return {"text": "x"}

    await many(nothing, guard).invoke(Many(items=[1, 2]), observers=[seen.observer])
    parents = [seen.parent(call) for call in seen.calls()]
    assert [one.name for one in parents] == ["each", "each"]
    assert {facts(one)["rollforward.node.fan_out_index"] for one in parents} == {0, 1}


async def test_outside_a_run_a_call_works_and_has_no_span(seen: Seen) -> None:
    chat = answering(ok)
    assert (await chat.complete(ASK)).text == "about x"
    assert chat.complete_sync(ASK).text == "about x"
    with pytest.raises(ProviderError):
        await answering(lambda _: httpx.Response(500)).complete(ASK)
    assert seen.calls() == []


async def test_payload_is_shown_where_it_is_asked_for_without_secrets_and_cut(seen: Seen) -> None:
    async def ask(_state: One) -> dict[str, str]:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        text = {"type": "text", "text": f"my key is {SECRET}"}
        said_so_far: list[dict[str, Any]] = [{"role": "system", "content": "be brief"}]
        said_so_far.append({"role": "user", "content": [text, image]})
        for chat in (answering(long, payload=True, payload_max_bytes=200), answering(long)):
            await chat.complete(said_so_far)
        return {}

    def long(_prompt: str) -> httpx.Response:
        return httpx.Response(200, json=said("Bearer abcdefghijkl " + "é" * 500).body)

    await one(ask).invoke(One(), observers=[seen.observer])
    shown, hidden = (facts(call) for call in seen.calls())
    assert json.loads(shown["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [{"type": "text", "content": "my key is ***"}, {"type": "image_url"}]},
    ]
    told = shown["gen_ai.output.messages"]
    assert told.startswith('[{"role":"assistant","parts":[{"type":"text","content":"Bearer *** é')
    assert told.endswith("é[...]")
    assert len(told.encode()) <= 200
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & set(hidden)
