"""However an orchestrator ends: whoever goes on tells observers nothing that they were told already."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.crashpoint import EXIT_CODE
from tests.service.deployment import Command, Deployment
from tests.service.redis import RedisServer
from tests.service.worker import wait_until

GRAPH = "tests.graph.overheard"
NUMBERS = [0, 1, 2, 3]
HELD = 0
"""The instance that is under way while its orchestrator dies."""

LATE = 3
"""The instance that begins under the next orchestrator, and is under way until that has told of it."""

ASKED = ("--progress", "none", "-o", "json")
POINTS = {
    "before_dispatch": 1,
    "after_queue_before_publish": 2,
    "after_publish": 2,
    "after_reports_before_commit": 1,
    "mid_commit": 1,
    "after_commit_before_close": 1,
    "during_close": 1,
    "during_fold": 1,
    "after_outcome_before_tombstone": 1,
}
"""Where an orchestrator crashes, and at which arrival: that of the second dispatch, or of the first report."""

AT_END = {"during_fold", "after_outcome_before_tombstone"}
"""The points that are not reached while an instance is held."""

Promised = tuple[str, str, int | None]
"""The kind, the place and the instance of an event that observers are to hear of."""

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True, slots=True)
class Told:
    """A line of the observer."""

    invocation_id: str
    kind: str
    place: str
    index: int | None
    attempt: int

    @property
    def is_of_instance(self) -> bool:
        return self.index is not None


class Run:
    """One run and the commands that drive it, one after the other."""

    def __init__(self, workers: Deployment, folder: Path, name: str, *, crash: str | None = None) -> None:
        self._file = folder / "overheard"
        self._workers = workers
        self._begun_before = len(workers.witnessed())
        self._name = name
        self._command: Command | None = None
        asked = {"ROLLFORWARD_CRASH": crash, "ROLLFORWARD_CRASH_FILE": str(folder / "arrivals")} if crash else {}
        environment = {"ROLLFORWARD_OVERHEARD": str(self._file), **asked}
        url = f"sqlite:///{folder}/state.db"
        self.deployment = Deployment(folder, workers.redis, url, graphs=[GRAPH], environment=environment)

    def begin(self) -> None:
        given = ("--set", f"numbers={NUMBERS}", "--run-id", self._name)
        self._command = self.deployment.begin("run", f"{GRAPH}:graph", *given, *ASKED)

    def go_on(self) -> None:
        self._command = self.deployment.begin("resume", self._name, *ASKED)

    def kill(self) -> None:
        assert self._command is not None
        self._command.kill()
        self._command.communicate()

    def let_go(self, *indexes: int) -> None:
        for index in indexes:
            (self._workers.folder / f"go-{self._name}-{index}").touch()

    def wait_until_heard(self, *indexes: int) -> None:
        """Wait until observers know that these instances are under way, or the command has ended."""

        def are_heard() -> bool:
            assert self._command is not None
            heard = {told.index for told in self.told() if told.place.endswith("begin") and told.kind == "completed"}
            return set(indexes) <= heard or self._command.poll() is not None

        wait_until(are_heard, what=f"{indexes} are heard of")

    def wait_until_crashed(self) -> None:
        assert self._command is not None
        said = self._command.communicate(timeout=60)
        assert self._command.returncode == EXIT_CODE, said

    def ended(self) -> dict[str, Any]:
        assert self._command is not None
        return self.deployment.ended(self._command)

    def not_begun(self) -> set[int]:
        """The instances that no worker has begun yet."""
        return set(NUMBERS) - {index for index, _ in self._workers.witnessed()[self._begun_before :]}

    def told(self) -> list[Told]:
        return [Told(*json.loads(line)) for line in self._file.read_text().splitlines()] if self._file.exists() else []


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("overheard")
    redis = RedisServer(folder / "redis").start()
    deployed = Deployment(folder, redis, f"sqlite:///{folder}/state.db", graphs=[GRAPH])
    try:
        deployed.worker(concurrency=2)
        yield deployed
    finally:
        deployed.close()
        redis.stop()


@pytest.fixture
def begun(workers: Deployment, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begins a run, whose commands are ended with the test; what it holds of the workers is let go."""
    runs = []

    def begin(name: str, **how: Any) -> Run:
        runs.append(Run(workers, tmp_path, name, **how))
        runs[-1].begin()
        return runs[-1]

    yield begin
    for run in runs:
        run.deployment.close()
        run.let_go(*NUMBERS)


def assert_told_at_most_once(run: Run, ended: dict[str, Any]) -> None:
    assert (ended["status"], ended["state"]["squares"]) == ("succeeded", [number**2 for number in NUMBERS])
    told = run.told()
    assert [one for one, count in Counter(told).items() if count > 1] == []
    # Instances were executed once, whoever recorded them; the outer node was begun by every invocation.
    of_instances = Counter((one.kind, one.place, one.index, one.attempt) for one in told if one.is_of_instance)
    assert [one for one, count in of_instances.items() if count > 1] == []


def assert_told(run: Run, promised: Collection[Promised]) -> None:
    assert set(promised) - {(one.kind, one.place, one.index) for one in run.told()} == set()


def all_of(indexes: Collection[int]) -> set[Promised]:
    """Every event of the nodes of these instances, and that they run and succeed."""
    of_nodes = {(kind, f"squares/{node}") for kind in ("started", "completed") for node in ("begin", "finish")}
    of_states = {("RUNNING 1", "squares"), ("SUCCESS 1", "squares")}
    return {(*told, index) for told in of_nodes | of_states for index in indexes}


@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_crash_repeats_no_event_and_loses_none_that_comes_after_it(point: str, begun: Callable[..., Run]) -> None:
    run = begun(f"crash-{point}", crash=f"{point}:{POINTS[point]}")
    run.wait_until_heard(0, 1)
    run.let_go(*(number for number in NUMBERS if number not in {HELD, LATE} or point in AT_END))
    run.wait_until_crashed()
    not_begun = run.not_begun()
    to_come = all_of(not_begun)
    if point != "after_outcome_before_tombstone":
        to_come.add(("completed", "squares", None))
    run.go_on()
    if point not in AT_END:
        assert LATE in not_begun
        to_come.add(("completed", "squares/finish", HELD))
        run.wait_until_heard(LATE)
    run.let_go(HELD, LATE)
    assert_told_at_most_once(run, run.ended())
    assert_told(run, to_come)


def test_who_goes_on_tells_what_nobody_has_told_yet(begun: Callable[..., Run]) -> None:
    run = begun("killed")
    for _ in range(2):
        run.wait_until_heard(0, 1)
        run.kill()
        run.go_on()
    run.let_go(*NUMBERS)
    assert_told_at_most_once(run, run.ended())
    assert_told(run, all_of(NUMBERS))
