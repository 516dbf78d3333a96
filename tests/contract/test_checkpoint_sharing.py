"""What a checkpoint store promises to several who use it, and when it cannot be reached, over every store there is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.checkpointers.redis.store import RedisStore
from backends.checkpointers.sql.store import SqlStore
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.errors import (
    CheckpointUnavailable,
    Fenced,
)
from tests.contract.checkpoint_case import (
    DEAD,
    LONG,
    Place,
    contribution,
    make_place,
    new_run,
    owned,
    reports_of,
    step,
)


class TestSharing:
    async def test_two_stores_on_one_database_see_each_other(self, place):
        one, other = place.open(), place.open()
        ownership = await owned(one)
        assert (await other.find("run-1")).owner == "owner-1"
        await other.record(ownership, [contribution(0)])
        await one.record(ownership, [contribution(0), contribution(1)])
        assert [kept.slot.index for kept in await reports_of(other)] == [0, 1]
        await other.acquire("run-1", "owner-2", invocation_id="inv-2", lease=LONG, seen=DEAD)
        with pytest.raises(Fenced):
            await one.save_step(ownership, step())

    async def test_writers_at_once_lose_nothing(self, place):
        stores = [place.open() for _ in range(3)]
        ownership = await owned(stores[0])
        calls = [
            stores[number % 3].record(ownership, [contribution(index) for index in range(number, number + 20)])
            for number in range(0, 120, 10)
        ]
        assert sum(await asyncio.gather(*calls)) == 130
        assert [one.slot.index for one in await reports_of(stores[1])] == list(range(130))

    def test_a_store_serves_one_event_loop_after_another(self, request, tmp_path):
        for kind in ("memory", "sqlite", "postgresql", "redis"):
            place = make_place(kind, request, tmp_path)
            asyncio.run(_with_closed(place, place.open(), "run-1"))
            asyncio.run(_with_closed(place, place.open(), "run-2"))


async def _with_closed(place: Place, store: CheckpointStore, run_id: str) -> None:
    await owned(store, run_id)
    if place.kind != "memory":
        await store.close()
        place.opened.remove(store)


class TestOutage:
    @pytest.fixture(params=["postgresql", "redis"])
    async def outage(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Place, object]]:
        made = make_place(request.param, request, tmp_path)
        server = request.getfixturevalue("postgres_server" if request.param == "postgresql" else "redis_server")
        if request.param == "redis":
            # As `doctor` demands of a Redis that keeps checkpoints; a start sets it back.
            with server.client() as client:
                client.config_set("appendfsync", "always")
        yield made, server
        await made.close()

    async def test_what_was_accepted_survives_a_server_that_was_stopped_at_once(self, outage):
        place, server = outage
        store = place.open()
        ownership = await owned(store)
        await store.record(ownership, [contribution(0)])
        server.kill()
        try:
            with pytest.raises(CheckpointUnavailable, match="see that"):
                await store.record(ownership, [contribution(1)])
            with pytest.raises(CheckpointUnavailable):
                await reports_of(store)
        finally:
            server.start()
        assert await store.record(ownership, [contribution(0), contribution(1)]) == 1
        assert len(await reports_of(store)) == 2

    async def test_a_file_that_cannot_be_made_is_an_outage(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        store = SqlStore(f"sqlite:///{tmp_path}/file/state.db", namespace="contract")
        try:
            with pytest.raises(CheckpointUnavailable, match="see that its folder"):
                await store.create(new_run())
        finally:
            await store.close()

    @pytest.mark.parametrize("url", ["postgresql+psycopg://u:hunter2@127.0.0.1:1/x", "redis://u:hunter2@127.0.0.1:1/0"])
    async def test_an_outage_does_not_tell_the_password(self, url):
        kind = SqlStore if url.startswith("postgresql") else RedisStore
        store = kind(url, namespace="contract")
        try:
            with pytest.raises(CheckpointUnavailable) as told:
                await store.find("run-1")
        finally:
            await store.close()
        assert "hunter2" not in str(told.value)
        assert "127.0.0.1:1" in str(told.value)
