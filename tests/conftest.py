"""Real services for every test that asks for one; a service that is missing fails the test."""

from collections.abc import Iterator

import pytest

from tests.service.redis import RedisServer

pytest_plugins = ["tests.service.postgres_fixture", "tests.contract.checkpoint_case"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take longest, in random order otherwise, so that nothing long is left at the end."""
    items.sort(key=_allowed_seconds, reverse=True)


def _allowed_seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for the whole session; whoever kills it starts it again."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a Redis that holds nothing."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url
