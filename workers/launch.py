"""How a worker is started.

SIGTERM stops a worker warmly: it takes no more and finishes what it has, however long that takes. Where a supervisor
kills after a grace time, set `REMAP_SIGTERM=SIGQUIT` in its environment, and `ROLLFORWARD_SHUTDOWN_GRACE_SECONDS` to
that time: it then stops 5 s before the end of it, and gives what it could not finish to others at once.
"""

import os
from typing import Any, Literal

from billiard.util import get_logger
from celery import signals

from workers.application import build_worker_app
from workers.metering import Metering
from workers.settings import Settings

Pool = Literal["prefork", "threads", "solo"]

EVENT_HEARTBEAT_SECONDS = 10


def worker_arguments(
    settings: Settings,
    *,
    concurrency: int | None = None,
    pool: Pool = "prefork",
    name: str | None = None,
    loglevel: str = "warning",
) -> list[str]:
    """The arguments of `celery worker`; `name` defaults to one that no other worker of this host has."""
    # Gossip and mingle cost six connections a worker and traffic by the square of their number; nothing needs them.
    quiet = ["-O", "fair", "--without-gossip", "--without-mingle"]
    beats = [f"--heartbeat-interval={EVENT_HEARTBEAT_SECONDS}"] if settings.monitoring else ["--without-heartbeat"]
    named = [f"--hostname={name or f'worker-{os.getpid()}@%h'}", f"--pool={pool}", f"--loglevel={loglevel}"]
    size = [] if concurrency is None else [f"--concurrency={concurrency}"]
    return ["worker", *named, *size, *quiet, *beats]


def run_worker(
    settings: Settings,
    *,
    concurrency: int | None = None,
    pool: Pool = "prefork",
    name: str | None = None,
    loglevel: str = "warning",
    metering: Metering | None = None,
) -> None:
    """Run a worker in this process until it is stopped; ends in SystemExit. `metering` as in `build_worker_app`."""
    signals.after_setup_logger.connect(_log_in_one_place)
    arguments = worker_arguments(settings, concurrency=concurrency, pool=pool, name=name, loglevel=loglevel)
    build_worker_app(settings, metering).worker_main(arguments)


def _log_in_one_place(**_: Any) -> None:
    """Send the records of the pool, which logs beside all others, where everything goes."""
    pool: Any = get_logger()
    pool.handlers.clear()
    pool.propagate = True
