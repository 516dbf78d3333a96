"""Frees what the dead processes of this host held."""

import logging
import os
from collections.abc import Iterable

import psutil

from orchestrator.ledger.owner import Owner, worker_of
from orchestrator.ledger.protocol import WorkerLedger, WorkerRegistry
from workers.process import is_alive, this_owner

logger = logging.getLogger(__name__)


class Children:
    """Looks after the owners of this place: this worker's children, and other workers that were killed.

    Every worker of a host does so for all, since a killed one cannot; releasing twice does nothing.
    """

    def __init__(self, worker: str, ledger: WorkerLedger, registry: WorkerRegistry) -> None:
        self._worker = worker
        self._ledger = ledger
        self._registry = registry

    def look(self) -> None:
        """Release the leases of every process that is dead."""
        for owner in self._owners():
            if not is_alive(owner):
                self._release(owner, has_died=True)

    def finish(self) -> None:
        """Hand back what this worker's own processes hold; its pool has stopped by now, and took them with it."""
        own = os.getpid()
        children = {child.pid for child in psutil.Process(own).children(recursive=True)}
        worker = worker_of(str(this_owner(self._worker)))
        for owner in self._owners():
            if owner.pid in {own, *children} or not is_alive(owner):
                self._release(owner, has_died=owner.worker != worker)

    def _owners(self) -> Iterable[Owner]:
        return map(Owner.parse, self._registry.owners(this_owner(self._worker).place))

    def _release(self, owner: Owner, *, has_died: bool) -> None:
        freed = self._ledger.release(str(owner), has_died=has_died)
        if freed:
            said = "leases of a dead process freed" if has_died else "leases handed back"
            logger.warning(said, extra={"worker": owner.worker, "owner_pid": owner.pid, "leases": freed})
