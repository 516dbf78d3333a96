"""Which fixtures are run, and where their instances run."""

import os
from pathlib import Path

import pytest

from tests.conformance.document import cases
from tests.conformance.location import DEFAULT
from tests.conformance.running import MakeLane


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest has a switch of that name, which lists its fixtures; here the name is the suite's, and takes a folder.
    group = parser.getgroup("conformance")
    group._arggroup.conflict_handler = "resolve"
    group.addoption("--fixtures", type=Path, default=DEFAULT, help="the folder with the conformance fixtures")
    group.addoption("--executor", choices=("local", "celery"), default="local", help="where fan-out instances run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    fixtures: Path = metafunc.config.getoption("--fixtures")
    if not fixtures.is_dir():
        if os.environ.get("CI"):
            raise pytest.UsageError(f"no conformance fixtures in {fixtures}; name their folder with --fixtures")
        metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=f"no fixtures in {fixtures}"))])
        return
    found = cases(fixtures)
    metafunc.parametrize("case", found, ids=[case.address for case in found])


@pytest.fixture
def make_lane() -> MakeLane | None:
    return None
