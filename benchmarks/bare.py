"""The same function as a bare Celery group: Celery's defaults, JSON, results in the same Redis."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery, group

URL = os.environ.get("BENCHMARK_REDIS_URL", "redis://127.0.0.1:6379/0")

app = Celery("bare", broker=URL, backend=URL)
app.conf.broker_connection_retry_on_startup = True


def give_back(number: int) -> int:
    """Give back what came."""
    return number


noop = app.task(give_back, name="noop")


@contextmanager
def bare_worker(url: str, folder: Path, *, concurrency: int) -> Iterator[None]:
    """A Celery worker with Celery's defaults, until the end of the block."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.bare", "worker", "-l", "warning"]
    environment = {**os.environ, "BENCHMARK_REDIS_URL": url}
    with (folder / "bare.log").open("ab") as log:
        worker = subprocess.Popen(
            [*command, "-c", str(concurrency)], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    app.conf.update(broker_url=url, result_backend=url)
    try:
        run_group(20)
        yield
    finally:
        worker.terminate()
        worker.wait()
        app.close()


def run_group(count: int) -> float:
    """Run a group of that many tasks and give the seconds from the first call to the last result."""
    begun = time.perf_counter()
    results = group(noop.s(number) for number in range(count)).apply_async().get(timeout=600)
    seconds = time.perf_counter() - begun
    if results != list(range(count)):
        raise RuntimeError("the bare group lost results; nothing can be compared with it")
    return seconds
