"""What it costs to see everything: a fan-out with and without traces, status rows, logs and metrics, in turns."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import click

from benchmarks.fan_out import run_seconds
from rollforward.assembly import assembled
from rollforward.metering import metered
from tests.service.otlp import Collector
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY, WorkerProcess
from workers.settings import Settings

Side = Literal["plain", "observed"]

WARM_UP = 500
TRACED_SHARE = "0.01"
OBSERVED = {
    "ROLLFORWARD_STATUS": "on",
    "ROLLFORWARD_LOGS": "on",
    "ROLLFORWARD_METRICS": "0",
    "ROLLFORWARD_TRACE_SHARE": TRACED_SHARE,
}
PLAIN = {"ROLLFORWARD_STATUS": "off", "ROLLFORWARD_LOGS": "off", "ROLLFORWARD_METRICS": "off"}


@click.command()
@click.option("--instances", default=5_000, show_default=True)
@click.option("--pairs", default=5, show_default=True, help="How often each side is measured, one after the other.")
@click.option("--concurrency", default=2, show_default=True, help="Processes of the worker.")
@click.option("--side", type=click.Choice(["plain", "observed"]), hidden=True)
def main(instances: int, pairs: int, concurrency: int, side: Side | None) -> None:
    """Compare instances a second, observed and not; one line a pair, then the median of the ratios."""
    if side is not None:
        print(json.dumps(asyncio.run(rate(instances, concurrency))))
        return
    ratios = []
    with Collector() as collector:
        for number in range(pairs):
            # Whichever comes first may find the machine quieter.
            order: tuple[Side, ...] = ("plain", "observed") if number % 2 == 0 else ("observed", "plain")
            rates = {one: measured(one, instances, concurrency, collector.environment) for one in order}
            ratios.append(rates["observed"] / rates["plain"])
            told = " ".join(f"{one}={rates[one]:.0f}/s" for one in ("plain", "observed"))
            print(f"{told} ratio={ratios[-1]:.2f}", flush=True)
        print(f"spans={len(collector.spans)}")
    print(f"instances={instances} pairs={pairs} traced={TRACED_SHARE} median_ratio={statistics.median(ratios):.2f}")


def measured(side: Side, instances: int, concurrency: int, collector: Mapping[str, str]) -> float:
    """Measure one side in processes of its own; instances a second."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "OTEL_"))}
    environment = {**kept, **({**OBSERVED, **collector} if side == "observed" else PLAIN)}
    command = [sys.executable, "-m", "benchmarks.observed", "--side", side]
    sizes = ["--instances", str(instances), "--concurrency", str(concurrency)]
    done = subprocess.check_output([*command, *sizes], env=environment, cwd=REPOSITORY, text=True)
    return float(done)


async def rate(instances: int, concurrency: int) -> float:
    """Instances a second of one worker, as the environment has them observed."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        redis = RedisServer(folder / "redis").start()
        stack.callback(redis.stop)
        settings = Settings(
            redis_url=redis.url, checkpoint_url=f"sqlite:///{folder}/state.db", graphs=("benchmarks.noop",)
        )
        stack.enter_context(
            WorkerProcess(
                folder,
                redis_url=redis.url,
                graphs=settings.graphs,
                concurrency=concurrency,
                environment={name: value for name, value in os.environ.items() if name.startswith(("ROLL", "OTEL_"))},
            )
        )
        meter = stack.enter_context(metered(settings))
        async with assembled(settings, "celery", meter=meter) as assembly:
            await run_seconds(assembly, WARM_UP)
            return instances / await run_seconds(assembly, instances)


if __name__ == "__main__":
    main()
