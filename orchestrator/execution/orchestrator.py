"""Submits runs, owns them, and drives them to their end."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from typing_extensions import TypeVar

from orchestrator.checkpoint.migration import load_state
from orchestrator.checkpoint.protocol import CheckpointStore, RecordOutdated, RunIsOver
from orchestrator.checkpoint.row import NewRun, Ownership, Run, RunStatus, Seen
from orchestrator.errors import FingerprintMismatch, OperatorError, RunCancelled
from orchestrator.execution.drive import Drive
from orchestrator.execution.handle import RunHandle
from orchestrator.execution.lane import Lane, Options, forget
from orchestrator.execution.measured import measured
from orchestrator.metadata import checked
from orchestrator.observers.observation import Observation
from orchestrator.state import State

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

StateT = TypeVar("StateT", bound=State, default=State)


class Orchestrator:
    """Submits runs to a store, and drives those it becomes the owner of; their instances go to `lane`.

    `is_dead` tells of an owner's text that its process is surely gone, so that its lease need not be waited for;
    `observation` is what observes every invocation of it.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        lane: Lane,
        options: Options,
        is_dead: Callable[[str], bool] = lambda _owner: False,
        observation: Observation | None = None,
    ) -> None:
        self._store = store
        self._lane = lane
        self._options = options
        self._is_dead = is_dead
        self._observation = observation or Observation()

    @property
    def lease(self) -> timedelta:
        """How long it owns a run that it does not renew."""
        return self._options.lease

    async def submit(
        self,
        graph: "Graph[StateT]",
        state: StateT,
        *,
        run_id: str | None = None,
        correlation_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Keep a run with its first state, for any orchestrator to drive.

        Raises:
            RunExists: a run of that id is kept.
            StateNotSerializable: the state does not survive the typed codec.
            MetadataRefused: the metadata cannot be such.
        """
        kept_metadata = checked(metadata or {})
        new = NewRun(
            run_id=run_id or str(uuid.uuid4()),
            graph=graph.name,
            fingerprint=graph.fingerprint,
            correlation_id=correlation_id or str(uuid.uuid4()),
            state=graph.codec.dump(state),
            schema_version=graph.state_class.schema_version,
            code_version=self._options.code_version,
            metadata=dict(kept_metadata),
        )
        return await self._store.create(new)

    async def start(
        self,
        run_id: str,
        graph: "Graph[StateT]",
        *,
        accept_code: bool = False,
        accept_older_record: bool = False,
        seen: Seen | None = None,
        observation: Observation | None = None,
    ) -> RunHandle[StateT]:
        """Become the owner of a run and drive it in a task of this loop, from where it was.

        A run that has succeeded is not driven again: its handle gives the result.

        Args:
            run_id: as `find` takes it.
            graph: the run's.
            accept_code: whether to go on although the run was made by another version of the graph.
            accept_older_record: whether to go on although the record is older than what the ledger has seen.
            seen: how the caller saw the run, where only the run as it was then is meant.
            observation: what observes this invocation, beside what observes all of this orchestrator's.

        Raises:
            CheckpointNotFound, RunAmbiguous: there is no such run, or several.
            RunIsDriven: another orchestrator owns it, or has owned it since it was `seen`.
            RunCancelled: it was cancelled.
            FingerprintMismatch: it was made by another version of the graph, and no migration leads to this one.
            RecordOutdated: its ledger has seen a later owner than its record, see `accept_older_record`.
        """
        run = await self._store.find(run_id)
        if not accept_code:
            _require_its_code(run, graph)
        if run.status.is_over:
            return await self._concluded(run, graph)
        above = await self._seen_by_ledger(run, accept_older_record=accept_older_record)
        seen = seen or Seen(run.epoch)
        if run.owner is not None and self._is_dead(run.owner):
            seen = replace(seen, has_dead_owner=True)
        try:
            own = await self._owned(run, graph, seen, above=above)
        except RunIsOver:
            # Another orchestrator has just brought it to its end.
            return await self._concluded(await self._store.find(run.run_id), graph)
        observed = (observation or Observation()).beside(self._observation)
        drive = Drive(self._store, self._lane, self._options, run=run, graph=graph, own=own, observation=observed)
        return RunHandle(
            run.run_id, own.invocation_id, asyncio.create_task(measured(drive, graph, self._options.meter)), drive
        )

    async def _seen_by_ledger(self, run: Run, *, accept_older_record: bool) -> int:
        """The epoch that the ledger knows of the run; 0 where it is away."""
        ledger = self._lane.ledger
        try:
            seen = await ledger.epoch(run.run_id)
            # Before it was first owned, it may as well be a new run of an id that was deleted.
            is_of_this = run.epoch > 0 or await ledger.created_at(run.run_id) == run.created_at.isoformat()
        except OperatorError:
            return 0
        is_behind = run.epoch < seen and is_of_this
        # Epochs are minted by the store: where it was asked after the ledger, it cannot be behind.
        if is_behind and not accept_older_record and (await self._store.find(run.run_id)).epoch < seen:
            raise RecordOutdated(run.run_id)
        return seen

    async def _concluded(self, run: Run, graph: "Graph[StateT]") -> RunHandle[StateT]:
        """The handle of a run that is over; what its owner may have left in the ledger is taken out."""
        await forget(self._lane, run.run_id, run.epoch)
        if run.status is RunStatus.CANCELLED:
            raise RunCancelled(run.run_id)
        return RunHandle(run.run_id, run.invocation_id, asyncio.create_task(self._final_state(run, graph)))

    async def _owned(self, run: Run, graph: "Graph[Any]", seen: Seen, *, above: int) -> Ownership:
        """Own the run under an epoch above one that its ledger has seen."""
        acquire = partial(
            self._store.acquire,
            run.run_id,
            self._options.owner,
            invocation_id=run.run_id if run.epoch == 0 else str(uuid.uuid4()),
            lease=self._options.lease,
            seen=seen,
            fingerprint=graph.fingerprint,
        )
        own = await acquire()
        is_new = own.epoch == 1
        while own.epoch <= above:
            own = await acquire()
        if is_new and above:
            # What the ledger has was left by another run of this id, whose record is gone.
            await forget(self._lane, run.run_id, own.epoch)
        return own

    async def _final_state(self, run: Run, graph: "Graph[StateT]") -> StateT:
        steps = await self._store.steps(run.run_id)
        last = [step for step in steps if not step.namespace][-1]
        return load_state(graph, last.state, last.schema_version, graph.migrations)


def _require_its_code(run: Run, graph: "Graph[Any]") -> None:
    """Refuse another version of the run's graph than its own, unless a migration leads to it."""
    is_migrated = graph.migrations.leads(run.schema_version, graph.state_class.schema_version)
    if run.fingerprint != graph.fingerprint and not is_migrated:
        raise FingerprintMismatch(run.graph, run.fingerprint, graph.fingerprint)
