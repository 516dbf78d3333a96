"""The network that tests take away from a process does what it is told, to those it is told to."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import redis

from tests.service.proxy import Proxy
from tests.service.redis import RedisServer
from tests.service.worker import wait_until


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[redis.Redis]:
    """A client that tries once, and waits for half a second."""
    client = redis.Redis(port=proxy.port, socket_timeout=0.5, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
    with client:
        yield client


def test_what_is_asked_and_answered_comes_through_whatever_its_size(connect: redis.Redis) -> None:
    connect.set("large", "x" * 1_000_000)
    assert connect.get("large") == b"x" * 1_000_000


def test_nothing_comes_through_a_lost_network_and_nobody_is_told(connect: redis.Redis, proxy: Proxy) -> None:
    connect.set("kept", "before")
    with proxy.lost():
        for _ in ("an open connection", "a new one"):
            with pytest.raises(redis.TimeoutError):
                connect.set("kept", "lost")
    assert connect.get("kept") == b"before"


def test_requests_come_through_a_silent_network_and_replies_do_not(connect: redis.Redis, proxy: Proxy) -> None:
    connect.ping()
    with proxy.silent(), pytest.raises(redis.TimeoutError):
        connect.set("asked", "heard")
    assert connect.get("asked") == b"heard"


def test_whoever_waits_for_a_reply_is_cut_off_when_the_network_is_back(proxy: Proxy, redis_server: RedisServer) -> None:
    with ExitStack() as silence, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as waiting:
        silence.enter_context(proxy.silent())
        waiting.sendall(b"SET waiting 1\r\n")
        with redis_server.client() as client:
            wait_until(lambda: client.exists("waiting"), what="the request has come through")
        silence.close()
        assert heard(waiting) == b""


def test_a_cut_network_ends_open_connections_and_new_ones(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as before:
        before.sendall(b"PING\r\n")
        assert before.recv(100) == b"+PONG\r\n"
        with proxy.cut():
            assert heard(before) == b""
            with closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=10)) as during:
                assert heard(during) == b""


def test_a_connection_is_cut_at_the_reply_to_one_request(connect: redis.Redis, proxy: Proxy) -> None:
    proxy.cut_at(b"counted", after=2)
    connect.incr("counted")
    connect.incr("counted")
    assert not proxy.has_cut
    with pytest.raises(redis.ConnectionError):
        connect.incr("counted")
    assert proxy.has_cut
    assert connect.get("counted") == b"3"


def test_replies_are_changed_and_requests_are_not(redis_server: RedisServer) -> None:
    def lie(reply: bytes) -> bytes:
        return reply.replace(b"good", b"evil")

    with (
        Proxy(redis_server.port, change=lie) as proxy,
        redis.Redis(port=proxy.port) as lied_to,
        redis_server.client() as told,
    ):
        lied_to.set("what", "good")
        assert (lied_to.get("what"), told.get("what")) == (b"evil", b"good")


def test_who_connects_while_the_server_is_away_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with Proxy(port) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as waiting:
        assert heard(waiting) == b""


def heard(connection: socket.socket) -> bytes:
    """What comes over a connection; nothing where it was ended."""
    try:
        return connection.recv(100)
    except ConnectionError:
        return b""
