"""Where the runs of observed graphs are executed."""

from collections.abc import Iterator

import pytest

from tests.service.observing import HERE, Place, on_a_worker
from tests.service.redis import RedisServer


@pytest.fixture(scope="module", params=["local", "celery"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """This process, then a real worker, which has the graphs of `tests.graph.statuses`."""
    if request.param == "local":
        yield HERE
        return
    folder = tmp_path_factory.mktemp("observed")
    redis = RedisServer(folder / "redis").start()
    try:
        with on_a_worker(folder, redis, ["tests.graph.statuses"]) as there:
            yield there
    finally:
        redis.stop()
