"""What a store in Redis leaves there, what it may touch, and how fast it records."""

import time
from statistics import median

import pytest
import redis

from backends.checkpointers.redis.store import RedisStore
from orchestrator.errors import CheckpointUnavailable
from tests.contract.checkpoint_case import FAN_OUT, contribution, fill, owned


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


async def test_the_last_of_20000_instances_are_recorded_as_quickly_as_the_first(store):
    ownership = await owned(store)
    rows = [contribution(index) for index in range(20_000)]
    seconds = []
    for first in range(0, len(rows), 100):
        began = time.monotonic()
        assert await store.record(ownership, rows[first : first + 100]) == 100
        seconds.append(time.monotonic() - began)
    # A median, since a machine may have something else to do now and then.
    assert median(seconds[-50:]) < 2 * median(seconds[:50])
    assert (await store.tally("run-1", FAN_OUT.id)).recorded == 20_000


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
