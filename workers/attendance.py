"""What goes on beside a Celery worker from when it consumes until it has stopped."""

import atexit
import threading
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.concurrency import prefork

from workers.children import Children
from workers.opening import open_worker_ledger
from workers.periodic import Periodic
from workers.prefetch import Prefetch
from workers.presence import Presence
from workers.recycling import recycle
from workers.runtime import CurrentRuntime
from workers.settings import Settings

EVERY_SECONDS = 1.0
ADJUST_EVERY_SECONDS = 0.2


class Attendance:
    """The presence of a worker, the care for its children and its prefetch count, each on a thread of its own."""

    def __init__(self, worker: Any, settings: Settings) -> None:
        self._ledger = open_worker_ledger(settings)
        presence = Presence(worker, settings, self._ledger)
        self.measured = presence.measured
        children = Children(worker.hostname, self._ledger, self._ledger)
        every = min(EVERY_SECONDS, settings.lease_seconds / 3)
        self._presence = Periodic(
            "rollforward-presence", presence.announce, every_seconds=every, last=presence.withdraw
        )
        self._children = Periodic("rollforward-children", children.look, every_seconds=every, last=children.finish)
        prefetch = Prefetch(worker)
        self._prefetch = Periodic("rollforward-prefetch", prefetch.adjust, every_seconds=ADJUST_EVERY_SECONDS)

    def start(self) -> None:
        for periodic in (self._presence, self._children, self._prefetch):
            periodic.start()

    def leave(self) -> None:
        """Take no more; what is under way is still looked after."""
        self._presence.end()

    def finish(self) -> None:
        """Free what is still held, and let go of the connections."""
        for periodic in (self._presence, self._children, self._prefetch):
            periodic.end()
        for periodic in (self._presence, self._children, self._prefetch):
            periodic.join()
        self._ledger.close()


def attend(worker: Any, settings: Settings, runtime: CurrentRuntime) -> None:
    """Attend a Celery worker that is about to start; its connections are made when it is ready, after its forks."""
    attendance: list[Attendance] = []
    recycle(runtime.is_spent)

    def ready(sender: Any, **_: Any) -> None:
        if sender.controller is worker:
            _let_abandon(worker.pool, runtime)
            attendance.append(Attendance(worker, settings))
            attendance[0].start()
            runtime.metering.tell(attendance[0].measured)
            _leave_before_soft_stop(worker, attendance[0].leave)
            # Celery tells the end of a warm stop only.
            atexit.register(ended)

    def leaving(sender: str, **_: Any) -> None:
        if attendance and sender == worker.hostname:
            attendance[0].leave()

    def ended(sender: Any = worker, **_: Any) -> None:
        if attendance and sender is worker:
            attendance.pop().finish()
            runtime.metering.close()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(leaving, weak=False)
    signals.worker_shutdown.connect(ended, weak=False)


def _leave_before_soft_stop(worker: Any, leave: Callable[[], None]) -> None:
    """Celery tells of a soft stop only when its time is over, through which it takes nothing."""
    wait = worker.wait_for_soft_shutdown

    def wait_for_soft_shutdown() -> None:
        leave()
        wait()

    worker.wait_for_soft_shutdown = wait_for_soft_shutdown


def _let_abandon(pool: Any, runtime: CurrentRuntime) -> None:
    """Give a pool without processes what Celery calls in a cold stop, and such a pool lacks."""
    if isinstance(pool, prefork.TaskPool):
        return

    def terminate_job(*_: Any, **__: Any) -> None:
        # Celery calls this in a signal handler, which must take no lock: the thread that it interrupts may hold it.
        threading.Thread(target=runtime.abandon, name="rollforward-abandon", daemon=True).start()

    pool.terminate_job = terminate_job
