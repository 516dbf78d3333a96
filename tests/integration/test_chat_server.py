"""The chat API that tests stand models on."""

import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.service.chat_server import Answer, Asked, ChatServer, refused, said


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5) as client:
        yield client


def ask(client: httpx.Client, server: ChatServer, content: str = "hi") -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    return client.post(f"{server.base_url}/chat/completions", json=body, headers={"X-One": "1"})


def test_answers_come_in_the_order_of_the_script_and_then_none_is_left(client: httpx.Client) -> None:
    with ChatServer([said("one"), refused(429, retry_after="7")]) as server:
        first, second, third = (ask(client, server) for _ in range(3))
    assert first.json()["choices"][0]["message"]["content"] == "one"
    assert (second.status_code, second.headers["retry-after"]) == (429, "7")
    assert third.status_code == 400


def test_requests_are_kept_and_a_function_may_answer_them(client: httpx.Client) -> None:
    def echo(asked: Asked) -> Answer:
        return said(asked.prompt.upper())

    with ChatServer(echo) as server:
        assert ask(client, server, "abc").json()["choices"][0]["message"]["content"] == "ABC"
        (asked,) = server.asked
        assert (asked.path, asked.headers["x-one"]) == ("/v1/chat/completions", "1")
        assert server.connections == 1


@pytest.mark.parametrize("cut_after", [0, 10])
def test_a_connection_can_be_cut(client: httpx.Client, cut_after: int) -> None:
    with ChatServer([Answer(body={"long": "x" * 100}, cut_after=cut_after)]) as server, pytest.raises(httpx.HTTPError):
        ask(client, server)


def test_closing_ends_an_answer_that_is_delayed(client: httpx.Client) -> None:
    server = ChatServer([Answer(body="{}", delay_seconds=60)])
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            client.post(f"{server.base_url}/chat/completions", json={}, timeout=30)
        except httpx.HTTPError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not server.asked:
        thread.join(0.01)
    server.close()
    thread.join(10)
    assert not thread.is_alive()
