"""What it costs to see everything: a fan-out with and without traces, status rows, logs and metrics, in turns."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import click

from benchmarks.fan_out import run_seconds
from rollforward.assembly import assembled
from rollforward.metering import metered
from tests.service.otlp import Collector
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY, WorkerProcess
from workers.settings import Settings

WARM_UP = 500
TRACED_SHARE = "0.01"
PLAIN = {"ROLLFORWARD_STATUS": "off", "ROLLFORWARD_LOGS": "off", "ROLLFORWARD_METRICS": "off"}
OBSERVED = {
    **PLAIN,
    "ROLLFORWARD_STATUS": "on",
    "ROLLFORWARD_METRICS": "0",
    "ROLLFORWARD_TRACE_SHARE": TRACED_SHARE,
}
CAPTURED = {**OBSERVED, "ROLLFORWARD_LOGS": "on"}


@click.command()
@click.option("--instances", default=5_000, show_default=True)
@click.option("--turns", default=5, show_default=True, help="How often each side is measured, one after the other.")
@click.option("--concurrency", default=2, show_default=True, help="Processes of the worker.")
@click.option("--side", is_flag=True, hidden=True)
def main(instances: int, turns: int, concurrency: int, side: bool) -> None:
    """Compare instances a second: plain, observed (traces, status rows, metrics), and with their output captured too.

    Prints a line a turn, then the medians of the ratios to the plain side.
    """
    if side:
        asyncio.run(serve(instances, concurrency))
        return
    with Collector() as collector, ExitStack() as stack:
        environments = {
            "plain": PLAIN,
            "observed": {**OBSERVED, **collector.environment},
            "captured": {**CAPTURED, **collector.environment},
        }
        sides = {
            name: stack.enter_context(Side(environment, instances, concurrency))
            for name, environment in environments.items()
        }
        told = [turn(sides, number) for number in range(turns)]
        print(f"spans={len(collector.spans)}")
    medians = " ".join(f"{name}={statistics.median(ratios[name] for ratios in told):.2f}" for name in told[0])
    print(f"instances={instances} turns={turns} traced={TRACED_SHARE} median_ratios: {medians}")


def turn(sides: "Mapping[str, Side]", number: int) -> dict[str, float]:
    """Measure each side once; the ratios to the plain one."""
    # Whichever comes first may find the machine quieter.
    order = list(sides) if number % 2 == 0 else list(sides)[::-1]
    rates = {name: sides[name].rate() for name in order}
    ratios = {name: rates[name] / rates["plain"] for name in sides if name != "plain"}
    print(" ".join(f"{name}={rates[name]:.0f}/s" for name in sides), end=" ")
    print(" ".join(f"{name}_ratio={ratio:.2f}" for name, ratio in ratios.items()), flush=True)
    return ratios


class Side:
    """An orchestrator and a worker of its own, in processes that this environment says how to observe.

    Both sides stay up while they take turns: a machine that is slow for a minute is slow for both.
    """

    def __init__(self, environment: Mapping[str, str], instances: int, concurrency: int) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "OTEL_"))}
        command = [sys.executable, "-m", "benchmarks.observed", "--side"]
        sizes = ["--instances", str(instances), "--concurrency", str(concurrency)]
        self._process = subprocess.Popen(
            [*command, *sizes],
            env={**kept, **environment},
            cwd=REPOSITORY,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def rate(self) -> float:
        """Instances a second of one run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("run", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # At the end of its input it ends, and its worker and Redis with it.
        self._process.communicate()


async def serve(instances: int, concurrency: int) -> None:
    """Run once for each line of input, and print instances a second."""
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
            while await asyncio.to_thread(sys.stdin.readline):
                print(instances / await run_seconds(assembly, instances), flush=True)


if __name__ == "__main__":
    main()
