"""A server sees every open run at a bounded cost, however many runs a store keeps."""

from collections.abc import AsyncIterator

import pytest

from backends.checkpointers.redis.keys import Keys
from backends.checkpointers.redis.store import RedisStore
from orchestrator.checkpoint.row import RunFilter, RunOrder, RunStatus
from tests.contract.checkpoint_case import ENDED, new_run, owned
from tests.service.redis import RedisServer

OPEN = frozenset((RunStatus.SUBMITTED, RunStatus.RUNNING, RunStatus.ORPHANED))
OLDEST = RunFilter(statuses=OPEN, order=RunOrder.OLDEST, limit=2000)
BY_END = RunFilter(order=RunOrder.ENDED, limit=2000)
NAMESPACE = "listed"


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore(redis_url, namespace=NAMESPACE)
    yield made
    await made.close()


async def listed(store: RedisStore, which: RunFilter) -> list[str]:
    return [run.run_id for run in await store.list_runs(which)]


def without_indexes(redis_server: RedisServer, *, keep_mark: bool = False) -> None:
    """What a version has left that keeps no index of open and ended runs."""
    index = Keys(NAMESPACE).index
    with redis_server.client() as client:
        client.delete(f"{index}open", f"{index}ended", *([] if keep_mark else [f"{index}indexed"]))


async def test_runs_in_redis_from_before_there_were_indexes_are_indexed_when_they_are_seen(
    store: RedisStore, redis_server: RedisServer
) -> None:
    # More than are indexed by one call.
    names = [f"run-{number}" for number in range(1100)]
    for name in names:
        await store.create(new_run(name))
    await store.request_cancel("run-7")
    await owned(store, "orphaned", lease=ENDED)
    without_indexes(redis_server)
    assert await listed(store, OLDEST) == [name for name in names if name != "run-7"] + ["orphaned"]
    assert await listed(store, BY_END) == ["run-7"]


async def test_a_run_that_such_a_version_creates_later_is_seen_as_well(
    store: RedisStore, redis_server: RedisServer
) -> None:
    await store.create(new_run("before"))
    assert await listed(store, OLDEST) == ["before"]
    await store.create(new_run("after"))
    with redis_server.client() as client:
        client.zrem(f"{Keys(NAMESPACE).index}open", "after")
    assert await listed(store, OLDEST) == ["before", "after"]


async def test_no_entry_of_an_index_outlives_its_run(store: RedisStore, redis_server: RedisServer) -> None:
    await store.create(new_run("open"))
    await store.finish(await owned(store, "ended"), RunStatus.SUCCEEDED)
    await store.delete("open")
    await store.delete("ended")
    with redis_server.client() as client:
        assert list(client.scan_iter(f"{NAMESPACE}:*")) == []


async def test_each_script_that_says_how_a_run_stands_keeps_the_indexes(
    store: RedisStore, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        # Nothing is left to be caught up with.
        client.set(f"{Keys(NAMESPACE).index}indexed", str(2**52))
    ownership = await owned(store, "owned", lease=ENDED)
    await store.create(new_run("cancelled"))
    assert await listed(store, OLDEST) == ["owned", "cancelled"]
    await store.request_cancel("cancelled")
    assert await listed(store, BY_END) == ["cancelled"]
    await store.finish(ownership, RunStatus.FAILED)
    assert await listed(store, OLDEST) == []
    assert await listed(store, BY_END) == ["cancelled", "owned"]
    await store.acquire("owned", "owner-2", invocation_id="inv-2", lease=ENDED)
    assert await listed(store, OLDEST) == ["owned"]
    assert await listed(store, BY_END) == ["cancelled"]
