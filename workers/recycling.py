"""Prefork processes that end by themselves between two messages."""

import sys
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from celery.concurrency import prefork


def recycle(is_spent: Callable[[], bool]) -> None:
    """Have every process of this worker's prefork pool end, where `is_spent` says so of it.

    It does so where it would take its next message, as one that has run as many as it may: what it reported has been
    read by the pool, which acknowledges it and starts another process.
    """
    for name in ("Pool", "BlockingPool"):
        setattr(prefork.TaskPool, name, _recycling(getattr(prefork.TaskPool, name), is_spent))


def _recycling(pool: Any, is_spent: Callable[[], bool]) -> Any:
    class Process(pool.Worker):  # type: ignore[misc] # billiard has no types
        wait_for_job: Callable[[], Any]

        def _make_child_methods(self, *args: Any, **kwargs: Any) -> None:
            super()._make_child_methods(*args, **kwargs)
            receive = self.wait_for_job

            def wait_for_job() -> Any:
                if is_spent():
                    sys.exit(EX_RECYCLE)
                return receive()

            self.wait_for_job = wait_for_job

    return type(pool.__name__, (pool,), {"Worker": Process})
