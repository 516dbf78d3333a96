"""Frees what the dead processes of this host held."""

import logging
import os
from collections.abc import Sequence

import psutil

from orchestrator.errors import LedgerUnavailable
from orchestrator.ledger.owner import Owner, worker_of
from orchestrator.ledger.protocol import WorkerLedger, WorkerRegistry
from workers.process import is_alive, this_owner

logger = logging.getLogger(__name__)

LONGEST_SHOWN = 200


class Children:
    """Looks after the owners of this place: this worker's children, and other workers that were killed.

    Every worker of a host does so for all, since a killed one cannot; releasing twice does nothing.
    """

    def __init__(self, worker: str, ledger: WorkerLedger, registry: WorkerRegistry) -> None:
        self._worker = worker
        self._ledger = ledger
        self._registry = registry
        self._refused: frozenset[str] = frozenset()

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

    def _owners(self) -> Sequence[Owner]:
        """The owners of this place. What is listed among them and is none, is said once."""
        place = this_owner(self._worker).place
        told = {text: _read(text, place) for text in self._registry.owners(place)}
        refused = frozenset(text for text, owner in told.items() if owner is None)
        for text in sorted(refused - self._refused):
            logger.error("owner refused", extra={"owner": text[:LONGEST_SHOWN]})
        self._refused = refused
        return [owner for owner in told.values() if owner is not None]

    def _release(self, owner: Owner, *, has_died: bool) -> None:
        try:
            freed = self._ledger.release(str(owner), has_died=has_died)
        except LedgerUnavailable:
            raise
        except Exception:
            # What keeps this one from being released must not keep the others.
            logger.exception("leases not released", extra={"worker": owner.worker, "owner_pid": owner.pid})
            return
        if freed:
            said = "leases of a dead process freed" if has_died else "leases handed back"
            logger.warning(said, extra={"worker": owner.worker, "owner_pid": owner.pid, "leases": freed})


def _read(text: str, place: str) -> Owner | None:
    """The owner of that text; None where it is none of this place, whose processes are not seen from here."""
    try:
        owner = Owner.parse(text)
    except ValueError:
        return None
    return owner if owner.place == place else None
