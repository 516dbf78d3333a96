"""From a URL to a store."""

import sys

import pytest

from backends.checkpointers.redis.store import RedisStore
from backends.checkpointers.sql.store import SqlStore
from backends.opening import CheckpointUrlUnknown, DriverMissing, open_store
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.errors import CallerError


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryStore),
        ("sqlite:///never.db", SqlStore),
        ("sqlite:////never/never.db", SqlStore),
        ("postgresql+psycopg://user@nowhere/name", SqlStore),
        ("postgresql://user@nowhere/name", SqlStore),
        ("redis://nowhere:6379/1", RedisStore),
        ("rediss://nowhere:6379/1", RedisStore),
        ("unix:///nowhere.sock?db=1", RedisStore),
    ],
)
async def test_each_scheme_opens_its_store_without_connecting(url, kind):
    store = open_store(url, namespace="opened")
    assert type(store) is kind
    await store.close()


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/x", "postgresql+asyncpg://u:hunter2@h/x", "hunter2.db", ""])
def test_an_unknown_scheme_is_refused_with_those_there_are(url):
    with pytest.raises(CheckpointUrlUnknown, match=r"sqlite:///FILE.*memory://") as refused:
        open_store(url, namespace="opened")
    assert isinstance(refused.value, CallerError)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_sqlite_store_without_a_file_is_refused(url):
    with pytest.raises(CallerError, match="memory://"):
        open_store(url, namespace="opened")


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@h:port/x", "redis://u:hunter2@h:port/1"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url):
    with pytest.raises(CallerError, match="cannot be read") as refused:
        open_store(url, namespace="opened")
    assert "hunter2" not in str(refused.value)


def test_a_missing_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DriverMissing, match=r"pip install 'rollforward\[postgres\]'"):
        open_store("postgresql+psycopg://user@nowhere/name", namespace="opened")
