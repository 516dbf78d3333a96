"""Drives whatever runs of a store wait for an orchestrator."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.checkpoint.protocol import RecordOutdated, RunIsOver
from orchestrator.checkpoint.row import Mark, Run, RunFilter, RunOrder, RunStatus, Seen
from orchestrator.errors import GraphNotFound, OperatorError, RollforwardError
from orchestrator.execution.handle import RunHandle
from orchestrator.graph.registry import registry
from orchestrator.metrics.meter import Meter
from orchestrator.middleware.cause_chain import error_record
from rollforward.assembly import Assembly, assembled
from rollforward.leftovers import Leftovers
from rollforward.liveness import is_dead
from rollforward.metering import metered
from rollforward.vigil import Vigil
from workers.settings import Settings
from workers.tracing import offer

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
ANSWERED_WITHIN_SECONDS = 10.0
FINISHED_WITHIN_SECONDS = 2.0
PAGE_RUNS = 1000
_OPEN = RunFilter(
    statuses=frozenset((RunStatus.SUBMITTED, RunStatus.ORPHANED, RunStatus.RUNNING)), order=RunOrder.OLDEST
)


async def serve(settings: Settings, *, most: int, until: asyncio.Event) -> None:
    """Drive submitted and orphaned runs of the graphs that this process knows, `most` at once, until the event."""
    with metered(settings) as meter:
        await _serve(settings, meter, most=most, until=until)


async def _serve(settings: Settings, meter: Meter, *, most: int, until: asyncio.Event) -> None:
    async with assembled(settings, "celery", meter=meter) as assembly:
        offer(assembly.provider)
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

    def __init__(self, assembly: Assembly, *, most: int, page_runs: int = PAGE_RUNS) -> None:
        self._assembly = assembly
        self._most = most
        self._page_runs = page_runs
        self._handles: dict[str, RunHandle] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left_alone: set[tuple[str, str, str]] = set()
        self._broken: set[str] = set()
        self._seen_up_to: Mark | None = None
        self._vigil = Vigil(assembly.orchestrator.lease)
        self._leftovers = Leftovers(assembly.store, assembly.lane)

    async def look(self) -> None:
        """Take up runs that wait, the oldest first; a store that is away is looked at again later.

        A look costs two pages at most: that of the oldest runs, and where there is room for more, the next one of those
        behind it. So every open run is seen in time, also behind any number of runs that are not for this server.
        """
        oldest = await self._page(None)
        if oldest is None:
            return
        if await self._take_from(oldest) and len(oldest) == self._page_runs:
            await self._look_further(oldest[-1])
        # What is left behind costs memory only, and can wait for the ledger.
        with contextlib.suppress(OperatorError, TimeoutError):
            async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
                await self._leftovers.clear()

    async def hand_back(self) -> None:
        """Give every run up, for another server."""
        await asyncio.gather(*(handle.detach() for handle in self._handles.values()))
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _page(self, after: Mark | None) -> list[Run] | None:
        """Open runs by age; None where the store does not tell."""
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
                return await self._assembly.store.list_runs(replace(_OPEN, after=after, limit=self._page_runs))
        except OperatorError as error:
            log.warning("store away", extra={"error": str(error)})
        except TimeoutError:
            log.warning("store does not answer", extra={"seconds": ANSWERED_WITHIN_SECONDS})
        return None

    async def _look_further(self, oldest: Run) -> None:
        """Look at the next page, which is left behind when nothing on it waits for room; begin anew after the last."""
        page = await self._page(self._seen_up_to or _OPEN.mark_of(oldest))
        if page is not None and await self._take_from(page):
            self._seen_up_to = _OPEN.mark_of(page[-1]) if len(page) == self._page_runs else None

    async def _take_from(self, runs: Sequence[Run]) -> bool:
        """Take up what waits, in this order, while there is room; false where something still waits for that."""
        others = [run for run in runs if run.run_id not in self._tasks]
        driven = [run for run in others if run.status is RunStatus.RUNNING]
        given_up = {run.run_id for run in self._vigil.abandoned(driven)}
        given_up |= {run.run_id for run in driven if run.owner is not None and is_dead(run.owner)}
        for run in others:
            is_given_up = run.run_id in given_up
            if run.status is RunStatus.RUNNING and not is_given_up:
                continue
            if len(self._tasks) >= self._most:
                return False
            await self._take(run, Seen(run.epoch, has_dead_owner=is_given_up))
        return True

    async def _take(self, run: Run, seen: Seen) -> None:
        """Take a run up, or say why not; a broken one is tried at every look, spoken of once, and stops no other."""
        try:
            await self._start(run, seen)
        except Exception:
            if run.run_id not in self._broken:
                log.exception("broken run left alone", extra=_facts(run))
            self._broken.add(run.run_id)
        else:
            self._broken.discard(run.run_id)

    async def _start(self, run: Run, seen: Seen) -> None:
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
            log.info("run not taken", extra={**_facts(run), "error": str(error)})
            return
        facts = {**_facts(run), "invocation_id": handle.invocation_id}
        log.info("run taken", extra=facts)
        self._handles[run.run_id] = handle
        self._tasks[run.run_id] = asyncio.create_task(self._driven(handle, facts))

    def _leave_alone(self, run: Run, reason: str) -> None:
        """Say so, once for all the runs of one version of a graph."""
        told = (reason, run.graph, run.fingerprint)
        if told not in self._left_alone:
            self._left_alone.add(told)
            log.warning(reason, extra={**_facts(run), "fingerprint": run.fingerprint})

    async def _driven(self, handle: RunHandle, facts: Mapping[str, str]) -> None:
        try:
            await handle.result()
            log.info("run succeeded", extra={**facts, "failed": sum(one.failed for one in handle.status().fan_outs)})
        except RollforwardError as error:
            category = error_record(error, with_traceback=False).shown_category
            log.warning("run ended", extra={**facts, "category": category, "error": str(error)})
        except asyncio.CancelledError:
            log.info("run handed back", extra=facts)
        finally:
            self._handles.pop(handle.run_id, None)
            self._tasks.pop(handle.run_id, None)


def _facts(run: Run) -> dict[str, str]:
    """What every line of a run says of it."""
    return {"run_id": run.run_id, "correlation_id": run.correlation_id, "graph": run.graph}


async def _either(event: asyncio.Event, task: asyncio.Task[None], *, more_seconds: float = 0.0) -> None:
    """Wait for the task or the event; after the event the task has some more time to end before it is cancelled."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=more_seconds)
    if not task.cancel():
        task.result()
