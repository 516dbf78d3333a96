"""Hints on their way to the broker."""

import contextvars
import json

import pytest
from celery import signals

from orchestrator.errors import BrokerUnavailable
from orchestrator.execution.executor import Hint
from orchestrator.seal import Seal
from tests.service.redis import RedisServer
from workers.application import build_app
from workers.dispatch import CeleryExecutor
from workers.message import decode
from workers.opening import open_worker_ledger
from workers.publisher import Publisher
from workers.settings import Settings

QUEUE = "rollforward.shop:flow.abc"


def a_hint(index, **changes):
    facts = {
        "run_id": "r1",
        "fan_out": "f1",
        "index": index,
        "generation": 0,
        "graph": "shop:flow",
        "fingerprint": "abc",
        "label": "flow/files",
        "key": f"file-{index}",
    }
    return Hint(**{**facts, **changes})


@pytest.fixture
async def executor(redis_url):
    settings = Settings(redis_url=redis_url, broker_url=redis_url)
    registry = open_worker_ledger(settings)
    executor = CeleryExecutor(settings, registry)
    yield executor
    await executor.close()
    registry.close()


def published(server, queue=QUEUE):
    """The messages of a queue, the oldest first."""
    with server.client() as client:
        return [json.loads(text) for text in reversed(client.lrange(f"rollforward:mq:{queue}", 0, -1))]


async def test_hints_are_published_in_order(executor, redis_server):
    await executor.dispatch([a_hint(index) for index in range(50)])
    await executor.dispatch([a_hint(index) for index in range(50, 100)])
    shown = [message["headers"]["argsrepr"] for message in published(redis_server)]
    assert shown == [f"index={index} key=file-{index}" for index in range(100)]


async def test_many_hints_travel_together(executor, redis_server):
    await executor.dispatch([a_hint(0)])
    before = _reads(redis_server)
    await executor.dispatch([a_hint(index) for index in range(1, 500)])
    # The server reads 16 KiB at a time, which holds a dozen of them; one by one it would read for each.
    assert _reads(redis_server) - before < 100
    assert len(published(redis_server)) == 500


def _reads(server):
    with server.client() as client:
        return client.info("stats")["total_reads_processed"]


async def test_what_people_see_is_one_name_a_fan_out_and_no_payload(executor, redis_server):
    await executor.dispatch([a_hint(0), a_hint(1, key=None)])
    headers = [message["headers"] for message in published(redis_server)]
    assert {header["shadow"] for header in headers} == {"flow/files"}
    assert [header["argsrepr"] for header in headers] == ["index=0 key=file-0", "index=1"]
    assert {header["kwargsrepr"] for header in headers} == {"{}"}


async def test_no_routing_table_is_needed(executor, redis_server):
    await executor.dispatch([a_hint(0)])
    with redis_server.client() as client:
        assert client.keys("*") == [f"rollforward:mq:{QUEUE}".encode()]


async def test_a_queue_of_the_users_own_is_used_as_it_is_named(executor, redis_server):
    await executor.dispatch([a_hint(0, queue="gpu")])
    assert len(published(redis_server, "gpu")) == 1


async def test_a_tracer_can_put_its_context_of_the_dispatching_task_into_the_headers(executor, redis_server):
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace")

    def inject(headers, **_):
        headers["traceparent"] = trace.get()

    signals.before_task_publish.connect(inject, weak=False)
    try:
        trace.set("00-abc-def-01")
        await executor.dispatch([a_hint(0)])
    finally:
        signals.before_task_publish.disconnect(inject)
    (message,) = published(redis_server)
    assert message["headers"]["traceparent"] == "00-abc-def-01"


async def test_a_broker_that_is_away_is_said_and_used_again_when_it_is_back(tmp_path):
    with_own_server = RedisServer(tmp_path).start()
    settings = Settings(redis_url=with_own_server.url, broker_url=with_own_server.url)
    registry = open_worker_ledger(settings)
    executor = CeleryExecutor(settings, registry)
    try:
        await executor.dispatch([a_hint(0)])
        with_own_server.kill()
        with pytest.raises(BrokerUnavailable, match="cannot publish to redis"):
            await executor.dispatch([a_hint(1)])
        with_own_server.start()
        await executor.dispatch([a_hint(1)])
        assert [message["headers"]["argsrepr"][:7] for message in published(with_own_server)] == ["index=0", "index=1"]
    finally:
        await executor.close()
        registry.close()
        with_own_server.stop()


def test_a_broker_without_batches_gets_every_message_too():
    app = build_app(Settings(broker_url="memory://"))
    publisher = Publisher(app, Seal(), namespace="rollforward")
    publisher.publish([a_hint(index) for index in range(3)])
    with app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        texts = [queue.get(timeout=5).payload[0][0] for _ in range(3)]
    assert [decode(text, Seal()).places for text in texts] == [((0, 0),), ((1, 0),), ((2, 0),)]
    publisher.close()
    app.close()
