"""Drives whatever runs of a store wait for an orchestrator."""

import asyncio
import contextlib
import logging

from orchestrator.checkpoint.protocol import RunIsOver
from orchestrator.checkpoint.row import Run, RunFilter, RunStatus, Seen
from orchestrator.errors import GraphNotFound, OperatorError, RecordOutdated, RollforwardError
from orchestrator.execution.handle import RunHandle
from orchestrator.graph.registry import registry
from rollforward.assembly import Assembly, assembled
from rollforward.leftovers import Leftovers
from rollforward.liveness import is_dead
from rollforward.vigil import Vigil
from workers.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
ANSWERED_WITHIN_SECONDS = 10.0
FINISHED_WITHIN_SECONDS = 2.0
MOST_LOOKED_AT = 1000
_OPEN = frozenset((RunStatus.SUBMITTED, RunStatus.ORPHANED, RunStatus.RUNNING))


async def serve(settings: Settings, *, most: int, until: asyncio.Event) -> None:
    """Drive submitted and orphaned runs of the graphs that this process knows, `most` at once, until the event."""
    async with assembled(settings, "celery") as assembly:
        server = Server(assembly, most=most)
        log.info("serving", extra={"graphs": [name for name, _ in registry.known()]})
        try:
            while not until.is_set():
                await _either(until, asyncio.create_task(server.look()), more_seconds=FINISHED_WITHIN_SECONDS)
                await _either(until, asyncio.create_task(asyncio.sleep(LOOK_EVERY_SECONDS)))
        finally:
            await server.hand_back()


class Server:
    """The runs that this process drives."""

    def __init__(self, assembly: Assembly, *, most: int) -> None:
        self._assembly = assembly
        self._most = most
        self._handles: dict[str, RunHandle] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left_alone: set[str] = set()
        self._vigil = Vigil(assembly.orchestrator.lease)
        self._leftovers = Leftovers(assembly.store, assembly.lane)

    async def look(self) -> None:
        """Take up the runs that wait, the oldest first; a store that is away is looked at again later."""
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
                runs = await self._assembly.store.list_runs(RunFilter(statuses=_OPEN, limit=MOST_LOOKED_AT))
        except OperatorError as error:
            log.warning("store away", extra={"error": str(error)})
            return
        except TimeoutError:
            log.warning("store does not answer", extra={"seconds": ANSWERED_WITHIN_SECONDS})
            return
        others = [run for run in runs if run.run_id not in self._tasks]
        driven = [run for run in others if run.status is RunStatus.RUNNING]
        abandoned = self._vigil.abandoned(driven)
        dead = [run for run in driven if run.owner is not None and is_dead(run.owner)]
        for run in reversed(others):
            is_given_up = run in abandoned or run in dead
            if len(self._tasks) < self._most and (is_given_up or run.status is not RunStatus.RUNNING):
                await self._take(run, Seen(run.epoch, has_dead_owner=is_given_up))
        # What is left behind costs memory only, and can wait for the ledger.
        with contextlib.suppress(OperatorError, TimeoutError):
            async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
                await self._leftovers.clear()

    async def hand_back(self) -> None:
        """Give every run up, for another server."""
        await asyncio.gather(*(handle.detach() for handle in self._handles.values()))
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take(self, run: Run, seen: Seen) -> None:
        try:
            graph = registry.find(run.graph, run.fingerprint)
        except GraphNotFound:
            self._leave_alone(run, "run of an unknown graph left alone")
            return
        try:
            # As it was listed: another server may have taken it since, and brought it to its end.
            handle = await self._assembly.orchestrator.start(run.run_id, graph, seen=seen)
            if not handle.is_driven_here:
                await handle.detach()
                raise RunIsOver(run.run_id, handle.status().status)
        except RecordOutdated as error:
            self._leave_alone(run, str(error))
            return
        except RollforwardError as error:
            log.info("run not taken", extra={"run_id": run.run_id, "error": str(error)})
            return
        log.info("run taken", extra={"run_id": run.run_id, "invocation_id": handle.invocation_id, "graph": run.graph})
        self._handles[run.run_id] = handle
        self._tasks[run.run_id] = asyncio.create_task(self._driven(handle))

    def _leave_alone(self, run: Run, reason: str) -> None:
        if run.run_id not in self._left_alone:
            self._left_alone.add(run.run_id)
            log.warning(reason, extra={"run_id": run.run_id, "graph": run.graph, "fingerprint": run.fingerprint})

    async def _driven(self, handle: RunHandle) -> None:
        try:
            await handle.result()
            log.info("run succeeded", extra={"run_id": handle.run_id})
        except RollforwardError as error:
            log.warning("run ended", extra={"run_id": handle.run_id, "category": error.category, "error": str(error)})
        except asyncio.CancelledError:
            log.info("run handed back", extra={"run_id": handle.run_id})
        finally:
            self._handles.pop(handle.run_id, None)
            self._tasks.pop(handle.run_id, None)


async def _either(event: asyncio.Event, task: asyncio.Task[None], *, more_seconds: float = 0.0) -> None:
    """Wait for the task or the event; after the event the task has some more time to end before it is cancelled."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=more_seconds)
    if not task.cancel():
        task.result()
