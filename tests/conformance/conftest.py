"""Which fixtures are run, and where their instances run."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.execution.lane import Lane
from rollforward.assembly import open_orchestrator_ledger
from tests.conformance.document import cases
from tests.conformance.location import SHARED, folders, told
from tests.conformance.running import MakeLane
from tests.conformance.scene import Scene, scene
from tests.conformance.world import COUNTERS
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess
from workers.dispatch import CeleryExecutor
from workers.opening import open_worker_ledger
from workers.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    # Heard only where this folder is asked for by name; what collects it among others has the defaults.
    # pytest has a switch of that name, which lists its fixtures; here the name is the suite's, and takes a folder.
    group = parser.getgroup("conformance")
    group._arggroup.conflict_handler = "resolve"
    group.addoption(
        "--fixtures",
        dest="conformance",
        type=Path,
        help="the folder with the conformance fixtures, instead of ours and the shared ones",
    )
    group.addoption("--executor", choices=("local", "celery"), default="local", help="where fan-out instances run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    asked = asked_for(metafunc.config)
    missing = None if (asked or SHARED).is_dir() else asked or SHARED
    if missing is not None and (asked is not None or os.environ.get("CI")):
        raise pytest.UsageError(f"no conformance fixtures in {missing}; name their folder with --fixtures")
    parameters = [pytest.param(case, id=case.address) for case in cases(folders(asked))]
    if missing is not None:
        parameters.append(pytest.param(None, id="shared", marks=pytest.mark.skip(reason=f"no fixtures in {missing}")))
    metafunc.parametrize("case", parameters)


def asked_for(config: pytest.Config) -> Path | None:
    """The folder that the command names."""
    asked: Path | None = config.getoption("conformance", None)
    return asked


@pytest.fixture(scope="session")
def stage() -> Iterator[Scene]:
    """What surrounds the cases."""
    with scene() as made:
        yield made


@pytest.fixture(scope="session")
def worker_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, stage: Scene
) -> Iterator[Settings | None]:
    """The settings of a deployment whose worker has the fixtures' graphs; None where no worker is asked for."""
    if request.config.getoption("executor", "local") == "local":
        yield None
        return
    folder = tmp_path_factory.mktemp("conformance")
    redis = RedisServer(folder).start()
    environment = {COUNTERS: redis.url, **told(folders(asked_for(request.config))), **stage.environment}
    os.environ[COUNTERS] = redis.url
    worker = WorkerProcess(
        folder, redis_url=redis.url, graphs=["tests.conformance.source"], concurrency=4, environment=environment
    )
    try:
        worker.start()
        yield Settings(redis_url=redis.url, broker_url=redis.url)
    finally:
        worker.stop()
        redis.stop()
        del os.environ[COUNTERS]


@pytest.fixture
async def make_lane(worker_settings: Settings | None) -> AsyncIterator[MakeLane | None]:
    """What gives the lane of a case; None for this process's own."""
    if worker_settings is None:
        yield None
        return
    ledger = open_orchestrator_ledger(worker_settings)
    workers = open_worker_ledger(worker_settings)
    executor = CeleryExecutor(worker_settings, workers)
    lane = Lane(ledger=ledger, executor=executor)
    try:
        yield lambda _graph: lane
    finally:
        await executor.close()
        await ledger.close_connections()
        workers.close()
