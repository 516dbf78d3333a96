"""Redis, a store, workers, orchestrators, and runs that are submitted one after the other."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from backends.opening import open_store
from orchestrator.checkpoint.row import Run, RunStatus
from orchestrator.errors import CheckpointNotFound, OperatorError, RollforwardError
from tests.chaos.process.history import History
from tests.chaos.process.member import Member
from tests.chaos.process.relay import HEARD, PUBLISHED, Relay
from tests.chaos.process.size import Size
from tests.chaos.process.skew import REDIS, SteppingRedis
from tests.service.forking import forked
from tests.service.postgres import PostgresServer
from tests.service.proxy import Proxy
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY
from workers.launch import worker_arguments
from workers.opening import open_worker_ledger
from workers.settings import Settings

GRAPH = "tests.chaos.process.squares"
LOOK_SECONDS = 0.02
START_SECONDS = 90.0

T = TypeVar("T")


class NotWithin(Exception):
    """What was waited for did not come."""


class Deployment:
    """All of it in one folder; what is started is ended by `close`.

    `added` is what the environment of a member has beside that of all, by its name. The first worker and the first
    orchestrator have their Redis behind a proxy.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: Size,
        seed: int,
        postgres: PostgresServer | None,
        duplicates: float,
        graph: str = GRAPH,
        added: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.folder = folder
        self.size = size
        self.graph = graph
        self._added = added or {}
        self.postgres = postgres
        faked = self._added.get(REDIS)
        self.redis = (SteppingRedis(folder / "redis", faked) if faked else RedisServer(folder / "redis")).start()
        self.checkpoint_url = postgres.create_database() if postgres else f"sqlite:///{folder}/state.db"
        self.history = History(folder / "witness")
        self.relay = Relay(self.redis, seed=seed, duplicates=duplicates)
        self.store = open_store(self.checkpoint_url, namespace="rollforward")
        self.proxies = {name: Proxy(self.redis.port) for name in ("worker-0", "serve-0")}
        self.workers = [self._worker(number) for number in range(size.workers)]
        self.orchestrators = [self._orchestrator(number) for number in range(size.orchestrators)]
        self.submitted: list[str] = []
        self.over: dict[str, Run] = {}
        self.refused: list[str] = []
        self._names = itertools.count(1)
        self._submitting = asyncio.Lock()

    async def start(self) -> None:
        """Start every process, and return once the workers have announced themselves."""
        self.relay.start()
        for member in (*self.workers, *self.orchestrators):
            member.start()
        await self.until_announced(*self.workers)

    async def close(self) -> None:
        """End what still runs."""
        for member in (*self.workers, *self.orchestrators):
            if member.is_there:
                member.wake()
            member.kill_group()
        self.relay.close()
        for proxy in self.proxies.values():
            proxy.close()
        await self.store.close()
        self.redis.stop()

    async def submit(self, instances: int) -> str:
        """Submit a run over so many numbers; tried again while a store is away."""
        run_id = f"run-{next(self._names):04}"
        given = ("--set", f"numbers={list(range(instances))}", "--run-id", run_id, "--detach", "-o", "json")
        while not await self._is_kept(run_id):
            # There is one process from which commands are forked.
            async with self._submitting:
                ended = await asyncio.to_thread(
                    forked,
                    ("run", f"{self.graph}:graph", *given),
                    folder=REPOSITORY,
                    environment=self.environment(),
                    seconds=60,
                )
            if ended.code:
                self.refused.append(ended.stderr)
                await asyncio.sleep(0.5)
        self.submitted.append(run_id)
        return run_id

    async def restart(self, member: Member) -> None:
        """Start a member anew, and return once it takes part again."""
        member.start()
        if member in self.workers:
            await self.until_announced(member)

    async def until_announced(self, *members: Member) -> None:
        registry = open_worker_ledger(Settings(redis_url=self.redis.url))
        try:

            def announced() -> set[Any]:
                with suppress(RollforwardError):
                    return {worker["pid"] for worker in registry.workers()}
                return set()

            missing = set(members)
            while missing:
                here = await self.until(lambda: asyncio.to_thread(announced), what="workers answer", seconds=30)
                missing = {one for one in missing if one.pid not in here}
                for one in missing:
                    if one.exit_code is not None:
                        raise NotWithin(f"{one.name} ended with {one.exit_code}:\n{one.tail()}")
                await asyncio.sleep(0.1)
        finally:
            registry.close()

    async def runs(self) -> dict[str, Run]:
        """Every submitted run as the store has it now."""
        return {run_id: await self.asked(partial(self.store.find, run_id)) for run_id in self.submitted}

    async def going_on(self) -> dict[str, Run]:
        """The runs that are not over; those that are, are remembered as they were then."""
        left = {}
        for run_id in [run_id for run_id in self.submitted if run_id not in self.over]:
            run = await self.asked(partial(self.store.find, run_id))
            if run.status.has_ended:
                self.over[run_id] = run
            else:
                left[run_id] = run
        return left

    async def until_over(self, seconds: float) -> None:
        """Wait until no run goes on; what does by then is hung."""

        async def all_over() -> bool:
            return not await self.going_on()

        with suppress(NotWithin):
            await self.until(all_over, what="every run is over", seconds=seconds)

    async def asked(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the store answers, which may be away for a while."""
        while True:
            with suppress(OperatorError):
                return await call()
            await asyncio.sleep(0.1)

    async def until(self, condition: Callable[[], Awaitable[T | None]], *, what: str, seconds: float) -> T:
        """Wait until a condition gives something true, and give that.

        Raises:
            NotWithin: it did not come.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (found := await condition()):  # noqa: ASYNC110 - other processes tell nobody
                    await asyncio.sleep(LOOK_SECONDS)
                return found
        raise NotWithin(f"not within {seconds:g} s: {what}")

    def environment(self, *, broker: int = PUBLISHED, port: int | None = None) -> dict[str, str]:
        """The settings of a process of this deployment; workers listen at another database than is published to."""
        port = port or self.redis.port
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ROLLFORWARD_", "CELERY_", "CHAOS_"))}
        return {
            **inherited,
            "ROLLFORWARD_REDIS_URL": f"redis://127.0.0.1:{port}/{HEARD}",
            "CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/{broker}",
            "ROLLFORWARD_CHECKPOINT_URL": self.checkpoint_url,
            "ROLLFORWARD_GRAPHS": self.graph,
            "ROLLFORWARD_LEASE_SECONDS": str(self.size.lease_seconds),
            "ROLLFORWARD_WITNESS": str(self.folder / "witness"),
            "CHAOS_SECONDS": str(self.size.seconds),
            "CHAOS_CONCURRENCY": str(self.size.concurrency),
        }

    def _worker(self, number: int) -> Member:
        name = f"worker-{number}"
        arguments = worker_arguments(Settings(), concurrency=self.size.processes, name=f"{name}@chaos", loglevel="info")
        command = ("celery", "-A", "workers.app", *arguments)
        return self._member(name, command, broker=HEARD)

    def _orchestrator(self, number: int) -> Member:
        # Few runs each, so that some own none and stand by.
        command = ("rollforward", "serve", "--most", "2")
        return self._member(f"serve-{number}", command, broker=PUBLISHED)

    def _member(self, name: str, command: Sequence[str], *, broker: int) -> Member:
        port = self.proxies[name].port if name in self.proxies else None
        environment = {**self.environment(broker=broker, port=port), **self._added.get(name, {})}
        return Member(name, command, folder=self.folder, environment=environment)

    async def _is_kept(self, run_id: str) -> bool:
        try:
            return bool(await self.asked(lambda: self.store.find(run_id)))
        except CheckpointNotFound:
            return False


def driven_by(run: Run) -> int | None:
    """The pid of the orchestrator that owns a run."""
    if run.status is not RunStatus.RUNNING or run.owner is None:
        return None
    return int(run.owner.split(":")[-2])
