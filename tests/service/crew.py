"""Workers of several pools, and what each of them has begun of graphs that leave notes, as `tests.graph.tiny` does."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.service.deployment import Command, Deployment
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until
from workers.opening import open_worker_ledger
from workers.settings import Settings

if TYPE_CHECKING:
    from workers.launch import Pool

GRAPH = "tests.graph.tiny:graph"


class Crew:
    """Starts workers of a deployment, and kills them at the end. Instances leave their notes in `folder`.

    A worker is found again by its name among those that began an instance, also when its process is gone.
    """

    def __init__(self, deployment: Deployment, folder: Path | None = None) -> None:
        self.deployment = deployment
        self.folder = folder or deployment.folder
        self.folder.mkdir(exist_ok=True)
        self._workers: list[WorkerProcess] = []
        self._names: dict[int, str] = {}

    def start(
        self, name: str, *, pool: "Pool" = "prefork", slots: int = 2, environment: Mapping[str, str] | None = None
    ) -> WorkerProcess:
        """Start a worker and wait until it has announced itself."""
        worker = WorkerProcess(
            self.deployment.folder,
            redis_url=self.deployment.redis.url,
            graphs=self.deployment.graphs,
            pool=pool,
            concurrency=slots,
            name=name,
            environment={**self.deployment.environment, **(environment or {})},
        )
        self._workers.append(worker)
        return worker.start()

    def run(self, count: int, run_id: str, *, act: str = "wait", graph: str = GRAPH) -> Command:
        """Begin a run of so many instances."""
        fields = [f"numbers={list(range(count))}", f'act="{act}"', f'folder="{self.folder}"']
        given = [part for one in fields for part in ("--set", one)]
        return self.deployment.begin("run", graph, *given, "--run-id", run_id, "--progress", "none", "-o", "json")

    def begun(self) -> dict[str, set[int]]:
        """The instances that have begun, by the name of the worker."""
        self._names.update({pid: worker.name for worker in self._workers for pid in _pids(worker)})
        found: dict[str, set[int]] = defaultdict(set)
        for note in self.folder.glob("started-*"):
            _, index, pid = note.name.split("-")
            found[self._names.get(int(pid), pid)].add(int(index))
        return found

    def until_begun(self, count: int, *names: str, seconds: float = 30) -> dict[str, set[int]]:
        """Wait until these workers have begun so many; what each has begun."""

        def enough() -> bool:
            begun = self.begun()
            return sum(len(begun.get(f"{name}@test", ())) for name in names) >= count

        wait_until(enough, what=f"{names} begin {count}", because=self.words, seconds=seconds)
        return self.begun()

    def go(self) -> None:
        """Let every instance that waits end."""
        (self.folder / "go").touch()

    def deliveries(self, run_id: str) -> dict[int, int]:
        """Which delivery of each instance was recorded."""
        return {item["fan_out_index"]: item["delivery_attempt"] for item in self.items(run_id)}

    def items(self, run_id: str) -> list[dict[str, Any]]:
        """What is told of each instance."""
        found: list[dict[str, Any]] = self.deployment.command("items", run_id, "-o", "json")["items"]
        return found

    def in_broker(self) -> tuple[int, int]:
        """How many messages wait, and how many are fetched and not acknowledged."""
        with self.deployment.redis.client() as client:
            queues = [key for key in client.keys("rollforward:mq:rollforward.*") if client.type(key) == b"list"]
            return sum(client.llen(key) for key in queues), int(client.zcard("rollforward:mq:unacked_index"))

    def leases_of(self, names: Iterable[str]) -> list[str]:
        """The owners of these workers that may still hold leases."""
        with self.deployment.redis.client() as client:
            owners = [one.decode() for key in client.keys("rollforward:run:place:*") for one in client.smembers(key)]
        return [owner for owner in owners if any(f"{name}@test" in owner for name in names)]

    @property
    def settings(self) -> Settings:
        """Those of whoever publishes."""
        return Settings(redis_url=self.deployment.redis.url, broker_url=self.deployment.redis.url, monitoring=True)

    def announced(self) -> Sequence[Mapping[str, Any]]:
        """What the workers say of themselves."""
        registry = open_worker_ledger(self.settings)
        try:
            return registry.workers()
        finally:
            registry.close()

    def present(self) -> list[str]:
        """The names of the workers that announce themselves."""
        return [worker["worker"] for worker in self.announced()]

    def words(self) -> str:
        """What the workers have to say."""
        return "\n".join(f"{log.name}:\n{log.read_text()[-1500:]}" for log in _logs(self._workers))

    def close(self) -> None:
        """End those that still run."""
        for worker in self._workers:
            worker.discard()


@contextmanager
def crew_of(folder: Path, *graphs: str, **environment: str) -> Iterator[Crew]:
    """A deployment of its own in a folder, with these settings, and its workers."""
    with ExitStack() as stack:
        redis = RedisServer(folder / "redis").start()
        stack.callback(redis.stop)
        url = f"sqlite:///{folder}/state.db"
        deployment = Deployment(folder, redis, url, graphs=graphs, environment=environment)
        stack.callback(deployment.close)
        crew = Crew(deployment)
        stack.callback(crew.close)
        yield crew


def _pids(worker: WorkerProcess) -> list[int]:
    try:
        return [worker.pid, *worker.children]
    except (RuntimeError, psutil.NoSuchProcess):
        return []


def _logs(workers: Iterable[WorkerProcess]) -> Iterable[Path]:
    return dict.fromkeys(worker.log for worker in workers)
