"""Frees what the dead processes of this host held."""

import logging
import os
from collections.abc import Iterable

import psutil

from orchestrator.ledger.owner import Owner
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
        self._release(owner for owner in self._owners() if not is_alive(owner))

    def finish(self) -> None:
        """Release what this worker's own processes hold; its pool has stopped by now."""
        own = os.getpid()
        children = {child.pid for child in psutil.Process(own).children(recursive=True)}
        self._release(owner for owner in self._owners() if owner.pid in {own, *children} or not is_alive(owner))

    def _owners(self) -> Iterable[Owner]:
        return map(Owner.parse, self._registry.owners(this_owner(self._worker).place))

    def _release(self, owners: Iterable[Owner]) -> None:
        for owner in owners:
            freed = self._ledger.release(str(owner))
            if freed:
                logger.warning(
                    "leases of a dead process freed",
                    extra={"worker": owner.worker, "owner_pid": owner.pid, "leases": freed},
                )
