"""How fast instances that do nothing are run and recorded, beside a bare Celery group in the same run."""

import asyncio
import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
import psutil

from benchmarks.bare import bare_worker, run_group
from benchmarks.noop import Numbers, graph
from benchmarks.part import parts
from benchmarks.store_size import store_bytes, written_bytes
from orchestrator.metrics.meter import Meter
from rollforward.assembly import Assembly, assembled
from rollforward.metering import metered
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess
from workers.settings import Settings

Executor = Literal["local", "celery"]

WARM_UP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of `instances` instances.

    `ratio` is the rate over the bare group's. `store_bytes_per_instance` is what the checkpoint store has grown by;
    `written_bytes_per_instance` is what this process has written to disk for it, log and all (0 where the store is a
    server, or the system does not say). Memory growth is that of this process between submission and result, inputs
    and results among it.
    """

    executor: str
    checkpoint: str
    instances: int
    seconds: float
    rate_per_s: float
    bare_group_rate_per_s: float
    ratio: float
    store_bytes_per_instance: float
    written_bytes_per_instance: float
    memory_bytes_per_instance: float


@click.command()
@click.option("--instances", default=5_000, show_default=True)
@click.option("--executor", type=click.Choice(["local", "celery"]), default="celery", show_default=True)
@click.option("--checkpoint", metavar="URL", help="Default: SQLite in a temporary folder; `redis` for the same Redis.")
@click.option("--concurrency", default=2, show_default=True, help="Processes of the workers.")
@click.option("--metrics", is_flag=True, help="Count as where a Prometheus scrapes the server and the worker.")
@click.option("--parts", "only_parts", is_flag=True, help="Measure publish, claim and report, and record alone.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(**options: Any) -> None:
    """Measure instances that do nothing."""
    checkpoint, instances, output = options["checkpoint"], options["instances"], options["output"]
    executor, concurrency = options["executor"], options["concurrency"]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        redis = RedisServer(folder / "redis").start()
        stack.callback(redis.stop)
        url = redis.url if checkpoint == "redis" else checkpoint or f"sqlite:///{folder}/state.db"
        served = "0" if options["metrics"] else "off"
        settings = Settings(redis_url=redis.url, checkpoint_url=url, graphs=("benchmarks.noop",), metrics=served)
        if options["only_parts"]:
            show(parts(settings, instances), output)
            return
        with bare_worker(redis.url, folder, concurrency=concurrency):
            bare = instances / run_group(instances)
        if executor == "celery":
            stack.enter_context(
                WorkerProcess(
                    folder,
                    redis_url=redis.url,
                    graphs=settings.graphs,
                    concurrency=concurrency,
                    environment={"ROLLFORWARD_METRICS": served},
                )
            )
        show(asdict(asyncio.run(measure(settings, executor, instances, bare))), output)


async def run_seconds(assembly: Assembly, count: int) -> float:
    """Run so many instances that do nothing, and see that none is missing; how long that took."""
    begun = time.perf_counter()
    run = await assembly.orchestrator.submit(graph, Numbers(numbers=list(range(count))))
    handle = await assembly.orchestrator.start(run.run_id, graph)
    state = await handle.result()
    if state.results != list(range(count)):
        raise RuntimeError("results were lost")
    return time.perf_counter() - begun


async def measure(settings: Settings, executor: Executor, instances: int, bare: float) -> Measured:
    """Run the graph once to warm up and once measured."""
    with metered(settings) as meter:
        return await _measured(settings, executor, instances, bare=bare, meter=meter)


async def _measured(settings: Settings, executor: Executor, instances: int, *, bare: float, meter: Meter) -> Measured:
    async with assembled(settings, executor, meter=meter) as assembly:
        await run_seconds(assembly, WARM_UP)
        kept, memory = store_bytes(settings.checkpoint_url), psutil.Process().memory_info().rss
        written = written_bytes()
        seconds = await run_seconds(assembly, instances)
        written = written_bytes() - written
        memory = psutil.Process().memory_info().rss - memory
        kept = store_bytes(settings.checkpoint_url) - kept
    return Measured(
        executor=executor,
        checkpoint=settings.checkpoint_url.partition(":")[0],
        instances=instances,
        seconds=round(seconds, 3),
        rate_per_s=round(instances / seconds, 1),
        bare_group_rate_per_s=round(bare, 1),
        ratio=round(instances / seconds / bare, 2),
        store_bytes_per_instance=round(kept / instances, 1),
        written_bytes_per_instance=round(written / instances, 1),
        memory_bytes_per_instance=round(memory / instances, 1),
    )


def show(facts: dict[str, object], output: str) -> None:
    """Print facts on stdout."""
    if output == "json":
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name:28} {value}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "default")
    main()
