"""Calls of a model over a real local server."""

import asyncio
import gzip
import os
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from backends.llm import transport
from backends.llm.chat import OpenAIChat
from backends.llm.completion import Completion
from backends.llm.error import ProviderError, StructuredOutputInvalid
from orchestrator.llm.event import Usage
from orchestrator.middleware.cause_chain import error_record
from tests.service.chat_server import Answer, Asked, ChatServer, Script, refused, said
from tests.service.worker import wait_until

KEY = "key-of-mine-1234567890"
ASK = [{"role": "user", "content": "is it purring?"}]

Chat = Callable[..., OpenAIChat]
Ask = Callable[..., Any]


class Scored(BaseModel):
    score: int
    why: str = ""


class Setup:
    """A server and the chats of a test, all of which are closed at its end."""

    def __init__(self) -> None:
        self.servers: list[ChatServer] = []
        self.chats: list[OpenAIChat] = []

    def server(self, script: Script) -> ChatServer:
        self.servers.append(ChatServer(script))
        return self.servers[-1]

    def chat(self, server: ChatServer | str, **options: Any) -> OpenAIChat:
        base_url = server if isinstance(server, str) else server.base_url
        self.chats.append(OpenAIChat(base_url, "test-model", **{"timeout": timedelta(seconds=10), **options}))
        return self.chats[-1]


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    try:
        yield made
    finally:
        for chat in made.chats:
            await chat.aclose()
        for server in made.servers:
            server.close()


async def asynchronously(chat: OpenAIChat, *arguments: Any, **parameters: Any) -> Completion:
    return await chat.complete(*arguments, **parameters)


async def synchronously(chat: OpenAIChat, *arguments: Any, **parameters: Any) -> Completion:
    return await asyncio.to_thread(chat.complete_sync, *arguments, **parameters)


either_way = pytest.mark.parametrize("complete", [asynchronously, synchronously])


@either_way
async def test_a_completion_is_what_the_model_said_and_what_it_took(setup: Setup, complete: Ask) -> None:
    answer = said("yes", id="c-7", model="test-model-0613")
    headers = {"x-ratelimit-remaining-requests": "9", "content-type": "text/plain"}
    server = setup.server([Answer(body=answer.body, headers=headers)])
    completion = await complete(setup.chat(server, api_key=SecretStr(KEY)), ASK, temperature=0.5, max_tokens=9)
    assert completion == Completion(
        text="yes",
        finish_reason="stop",
        model="test-model-0613",
        id="c-7",
        usage=Usage(prompt_tokens=5, completion_tokens=1, total_tokens=6),
        rate_limit={"remaining-requests": "9"},
    )
    (asked,) = server.asked
    assert (asked.path, asked.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert asked.body == {"model": "test-model", "messages": ASK, "temperature": 0.5, "max_tokens": 9}


async def test_tool_calls_and_texts_in_parts_are_understood(setup: Setup) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    parts = [{"type": "text", "text": "a"}, {"type": "thinking"}, {"type": "text", "text": "b"}]
    messages = [{"content": None, "tool_calls": [call]}, {"content": parts}, {"content": None, "refusal": "no"}]
    server = setup.server([said(None, choices=[{"message": message}], usage=None) for message in messages])
    chat = setup.chat(server)
    called, spoken, declined = [await chat.complete(ASK) for _ in messages]
    assert (called.text, called.tool_calls) == (None, (call,))
    assert (spoken.text, spoken.finish_reason, spoken.usage) == ("ab", None, Usage())
    assert (declined.text, declined.refusal) == (None, "no")


async def test_the_key_is_read_from_the_environment_when_a_call_is_made(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = setup.server(lambda _: said("ok"))
    chat = setup.chat(server, api_key="MY_KEY", headers={"X-Team": "blue"})
    await chat.complete(ASK)
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    await chat.complete(ASK)
    first, second = server.asked
    assert "authorization" not in first.headers
    assert (second.headers["authorization"], second.headers["x-team"]) == (f"Bearer {KEY}", "blue")


@either_way
@pytest.mark.parametrize(
    ("answer", "category"),
    [
        (refused(429, retry_after="3"), "provider_rate_limit"),
        (refused(401), "provider_authentication"),
        (Answer(cut_after=0), "provider_unavailable"),
        (Answer(body={"choices": []}, cut_after=5), "provider_unavailable"),
        (Answer(body="<html>hello</html>"), "provider_invalid_response"),
        (Answer(body=b"\xff\xfe"), "provider_invalid_response"),
        (Answer(body=b"no gzip", headers={"content-encoding": "gzip"}), "provider_invalid_response"),
        (Answer(body=[]), "provider_invalid_response"),
        (Answer(body={"choices": []}), "provider_invalid_response"),
        (Answer(body={"choices": [{"message": "yes"}]}), "provider_invalid_response"),
        (Answer(body={"choices": [{"message": {"content": 7}}]}), "provider_invalid_response"),
        (Answer(body={"choices": [{"message": {"tool_calls": "t"}}]}), "provider_invalid_response"),
        (Answer(status=302, headers={"location": "/v1/elsewhere"}, body=""), "provider_invalid_request"),
    ],
)
async def test_what_goes_wrong_has_a_category(setup: Setup, complete: Ask, answer: Answer, category: str) -> None:
    server = setup.server([answer])
    with pytest.raises(ProviderError) as raised:
        await complete(setup.chat(server), ASK)
    assert raised.value.category == category
    assert len(server.asked) == 1
    if category == "provider_rate_limit":
        assert raised.value.retry_after == timedelta(seconds=3)


@either_way
async def test_a_server_that_is_silent_or_away_is_unavailable(setup: Setup, complete: Ask) -> None:
    silent = setup.chat(setup.server([Answer(delay_seconds=60)]), timeout=timedelta(seconds=0.1))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        away = setup.chat(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        for chat in (silent, away):
            with pytest.raises(ProviderError) as raised:
                await complete(chat, ASK)
            assert raised.value.category == "provider_unavailable"


@either_way
@pytest.mark.parametrize("part", ["body", "headers"])
async def test_an_answer_that_comes_too_slowly_is_given_up_in_time(setup: Setup, complete: Ask, part: str) -> None:
    answer = said("x" * 20_000) if part == "body" else replace(said("ok"), headers={"x-long": "x" * 20_000})
    # Whole, it would take forty seconds.
    slow = replace(answer, piece_bytes=10, pause_seconds=0.02)
    began = time.monotonic()
    chat = setup.chat(setup.server([slow]), timeout=timedelta(seconds=0.2))
    with pytest.raises(ProviderError, match=r"no answer within 0\.2 s") as raised:
        await complete(chat, ASK)
    assert time.monotonic() - began < 20
    assert raised.value.category == "provider_unavailable"


@either_way
async def test_an_answer_without_end_is_refused(setup: Setup, complete: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1000)
    server = setup.server([Answer(body=gzip.compress(b"x" * 100_000), headers={"content-encoding": "gzip"})])
    with pytest.raises(ProviderError, match="more than 1000 bytes"):
        await complete(setup.chat(server), ASK)


@either_way
async def test_calls_share_connections_and_wait_for_one_without_losing_time(setup: Setup, complete: Ask) -> None:
    server = setup.server(lambda _: Answer(body=said("ok").body, delay_seconds=0.22))
    chat = setup.chat(server, max_connections=2, timeout=timedelta(seconds=1))
    completions = await asyncio.gather(*(complete(chat, ASK) for _ in range(10)))
    assert {one.text for one in completions} == {"ok"}
    assert server.connections == 2


def test_one_chat_serves_several_event_loops() -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    with ChatServer(lambda _: said("ok")) as server:
        chat = OpenAIChat(server.base_url, "m")
        answers = [loop.run_until_complete(chat.complete(ASK)).text for loop in (*loops, *loops)]
        for loop in loops:
            loop.run_until_complete(chat.aclose())
            loop.close()
        assert answers == ["ok"] * 4
        assert server.connections == 2


def test_a_child_has_connections_of_its_own() -> None:
    with ChatServer(lambda _: said("ok")) as server:
        chat = OpenAIChat(server.base_url, "m")
        chat.complete_sync(ASK)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                os._exit(0 if chat.complete_sync(ASK).text == "ok" else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)
        chat.complete_sync(ASK)
        chat.close()
        assert os.waitstatus_to_exitcode(status) == 0
        assert (len(server.asked), server.connections) == (3, 2)


async def test_a_cancelled_call_is_over_at_once(setup: Setup) -> None:
    server = setup.server([Answer(delay_seconds=60), said("ok")])
    chat = setup.chat(server, max_connections=1)
    task = asyncio.create_task(chat.complete(ASK))
    await asyncio.to_thread(wait_until, lambda: server.asked, what="the call is made")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await chat.complete(ASK)).text == "ok"


@either_way
async def test_an_answer_that_fits_its_class_is_parsed(setup: Setup, complete: Ask) -> None:
    server = setup.server([said('{"score": 3}')])
    completion = await complete(setup.chat(server), ASK, response_model=Scored)
    assert completion.parsed == Scored(score=3)
    assert "3" not in repr(completion.model_copy(update={"usage": Usage()}))
    form = server.asked[0].body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"] == {"name": "Scored", "schema": Scored.model_json_schema()}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said("it purrs"), "json_invalid"),
        (said('{"score": "it purrs"}'), "score: int_parsing"),
        (said('{"it purrs": 1}'), "score: missing"),
        (said(None), "there is no text"),
        (said(None, choices=[{"message": {"refusal": "it purrs"}}]), "it refused"),
        (said("", choices=[{"message": {"content": '{"sco'}, "finish_reason": "length"}]), "it was cut short"),
    ],
)
async def test_an_answer_that_does_not_fit_says_where_and_not_what(setup: Setup, answer: Answer, reason: str) -> None:
    with pytest.raises(StructuredOutputInvalid) as raised:
        await setup.chat(setup.server([answer])).complete(ASK, response_model=Scored)
    assert raised.value.category == "structured_output_invalid"
    assert reason in str(raised.value)
    assert "purr" not in f"{raised.value!r}{raised.value.__cause__!r}"


@pytest.mark.parametrize("parameters", [{"temperature": float("nan")}, {"tools": [object()]}, {"stream": True}])
async def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    setup: Setup, parameters: dict[str, Any]
) -> None:
    server = setup.server([])
    with pytest.raises(ProviderError) as raised:
        await setup.chat(server).complete(ASK, **parameters)
    assert raised.value.category == "provider_invalid_request"
    assert server.asked == []


async def test_neither_the_key_nor_what_was_said_is_shown(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    def echo(asked: Asked) -> Answer:
        told = f"{asked.headers['authorization']} said: {asked.prompt}"
        return refused(400, told) if asked.number == 0 else said(told)

    caplog.set_level("DEBUG")
    chat = setup.chat(setup.server(echo), api_key=SecretStr(KEY))
    with pytest.raises(ProviderError) as raised:
        await chat.complete(ASK)
    completion = await chat.complete(ASK)
    assert "purring" in (completion.text or "")
    shown = f"{chat!r}{vars(chat)!r}{raised.value!r}{raised.value.detail}{completion!r}{completion}{caplog.text}"
    assert KEY not in shown
    assert "purring" not in shown.replace(raised.value.detail or "", "")


@either_way
async def test_what_comes_that_is_no_http_is_shown_nowhere(setup: Setup, complete: Ask) -> None:
    server = setup.server([Answer(headers={"is it purring?": "yes"}), Answer(headers={"content-length": "purring"})])
    for _ in range(2):
        with pytest.raises(ProviderError) as raised:
            await complete(setup.chat(server), ASK)
        record = error_record(raised.value)
        assert (record.category, record.chain[1:]) == ("provider_unavailable", ())
        assert "RemoteProtocolError" in record.message
        assert "purring" not in f"{record.message}{record.traceback}"


async def test_a_key_that_no_header_carries_is_refused_without_showing_it(setup: Setup) -> None:
    server = setup.server([])
    with pytest.raises(ProviderError) as raised:
        await setup.chat(server, api_key=SecretStr(f"{KEY}\r\nx: y")).complete(ASK)
    assert raised.value.category == "provider_authentication"
    assert KEY not in repr(raised.value)
    assert server.asked == []


@either_way
@pytest.mark.parametrize("base_url", ["http://exa\u2603mple.x/v1", f"http://h/{'v' * 70_000}"])
async def test_a_url_that_nothing_can_be_sent_to_is_no_other_error(setup: Setup, complete: Ask, base_url: str) -> None:
    with pytest.raises(ProviderError) as raised:
        await complete(setup.chat(base_url), ASK)
    assert raised.value.category == "provider_invalid_request"
    assert raised.value.__cause__ is None


@either_way
async def test_a_host_whose_name_is_none_is_an_error_of_ours(setup: Setup, complete: Ask) -> None:
    with pytest.raises(ProviderError):
        await complete(setup.chat("http://a..b/v1"), ASK)


async def test_threads_and_loops_may_share_a_chat(setup: Setup) -> None:
    chat = setup.chat(setup.server(lambda _: said("ok")))
    answers: list[str | None] = []

    def ask() -> None:
        answers.append(chat.complete_sync(ASK).text)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert (await chat.complete(ASK)).text == "ok"
    for thread in threads:
        thread.join()
    assert answers == ["ok"] * 8
