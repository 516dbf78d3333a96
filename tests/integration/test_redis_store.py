"""What a store in Redis leaves there, what it may touch, and how much it does to record."""

import itertools
from collections import Counter

import pytest
import redis
from redis.client import Monitor

from backends.checkpointers.redis.store import RedisStore
from orchestrator.errors import CheckpointUnavailable
from tests.contract.checkpoint_case import FAN_OUT, contribution, fill, owned

# Commands that https://redis.io/docs/latest/commands/ gives as O(1) for one field or member.
AS_LONG_HOWEVER_MUCH_THERE_IS = {"GET", "HGET", "HSET", "HSETNX", "HEXISTS", "HINCRBY", "SADD", "TIME"}


@pytest.fixture
async def store(redis_url):
    made = RedisStore(redis_url, namespace="kept")
    yield made
    await made.close()


async def test_a_deleted_run_leaves_no_key(store, redis_server):
    with redis_server.client() as client:
        await fill(store)
        assert client.dbsize() > 10
        await store.delete("run-1")
        assert client.keys() == []


async def test_one_pattern_covers_every_key(store, redis_server):
    with redis_server.client() as client:
        await fill(store)
        keys = list(client.scan_iter())
        assert all(key.startswith(b"kept:cp:") for key in keys)
        assert {client.ttl(key) for key in keys} == {-1}


async def test_a_user_who_may_touch_these_keys_only_can_do_everything(redis_server, redis_url):
    with redis_server.client() as client:
        client.acl_setuser("clerk", enabled=True, passwords=["+secret"], keys=["kept:cp:*"], categories=["+@all"])
        store = RedisStore(redis_url.replace("://", "://clerk:secret@"), namespace="kept")
        try:
            await fill(store)
            assert await store.load("run-1") is not None
            assert len([row async for row in store.slots("run-1", FAN_OUT.id)]) == 1
            await store.delete("run-1")
        finally:
            await store.close()
            client.acl_deluser("clerk")


async def test_a_restarted_server_that_forgot_the_scripts_is_told_them_again(store, redis_server):
    await store.record(await owned(store), [contribution(0)])
    with redis_server.client() as client:
        client.script_flush()
    assert [row.report.slot.index async for row in store.slots("run-1", FAN_OUT.id)] == [0]


async def test_recording_takes_no_more_work_however_much_is_recorded(store, redis_server):
    ownership = await owned(store)
    works = []
    with redis_server.client() as client:
        for first in range(0, 2_000, 100):
            with client.monitor() as monitor:
                assert await store.record(ownership, list(map(contribution, range(first, first + 100)))) == 100
                works.append(commands(client, monitor))
    # Both clients have made their connections by the second time.
    of_first, of_last = works[1], works[-1]
    assert of_first == of_last
    assert of_first.keys() <= AS_LONG_HOWEVER_MUCH_THERE_IS | {"EVALSHA"}
    assert of_first.total() > 100


def commands(client: redis.Redis, monitor: Monitor) -> Counter[str]:
    """How often the server ran each command, those of scripts too, until now."""
    client.echo("until now")
    heard = (one["command"] for one in monitor.listen())
    return Counter(one.split()[0].upper() for one in itertools.takewhile(lambda one: one != "ECHO until now", heard))


async def test_a_full_server_is_an_outage_until_it_has_room(store, redis_server):
    ownership = await owned(store)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(CheckpointUnavailable, match="raise its maxmemory") as told:
                await store.record(ownership, [contribution(0)])
        finally:
            client.config_set("maxmemory", 0)
    assert isinstance(told.value.__cause__, redis.RedisError)
    assert await store.record(ownership, [contribution(0)]) == 1
