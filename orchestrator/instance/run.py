"""How one instance is run: the heart, the same for the local executor and for Celery workers."""

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.context import Cancellation, entered
from orchestrator.errors import PayloadTooLarge
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.walk import walk
from orchestrator.graph.projection import first_state
from orchestrator.instance.delivered import Delivered, Shared
from orchestrator.instance.ending import Ended, until_ended
from orchestrator.instance.inline import InlineFanOuts
from orchestrator.instance.kept import Kept
from orchestrator.instance.observed import observed
from orchestrator.instance.reporting import Trail, Watch, report_of
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Claimed
from orchestrator.metadata import Metadata
from orchestrator.middleware.cause_chain import error_record
from orchestrator.middleware.chain import compose
from orchestrator.observers.site import Site, at, boundary_site
from orchestrator.report import Outcome, Report
from orchestrator.scope import trying

if TYPE_CHECKING:
    from orchestrator.graph.node import FanOutNode
    from orchestrator.state import State

log = logging.getLogger(__name__)


async def run_instance(
    work: Claimed, briefing: Briefing, runtime: Runtime, cancellation: Cancellation, *, outer: Shared | None = None
) -> Report:
    """Run one claimed instance; whatever happens becomes its report. `outer` is shared by the one it is nested in."""
    watch = Watch()
    try:
        return await _observed_run(work, briefing, runtime, cancellation, outer=outer, watch=watch)
    except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # What users' code does has become a report by then. Whoever waits for this one has to hear of our own bugs too.
        log.exception("instance could not be run", extra=_place(work, briefing))
        ended = Ended(Outcome.FAILED, error=error_record(error))
        return report_of(work, briefing, runtime, ended=ended, times=watch.times(attempts=1))


async def _observed_run(
    work: Claimed,
    briefing: Briefing,
    runtime: Runtime,
    cancellation: Cancellation,
    *,
    outer: Shared | None,
    watch: Watch,
) -> Report:
    delivered = Delivered.of(work, briefing, runtime, outer)
    run_nested = partial(run_instance, runtime=runtime, cancellation=cancellation, outer=delivered.shared)
    inline = InlineFanOuts(run_nested, work, briefing.max_result_bytes, kept=delivered.shared.kept)
    site = boundary_site(delivered.frame(runtime.fan_outs or inline))
    with entered(delivered.context(cancellation)) as scope, observed(delivered, site, watch.started_at) as tell:
        running = _kept_safe(_contribution(work, briefing, site), delivered.own_kept)
        ended = await until_ended(running, briefing.time_limit_seconds, cancellation)
        tell(ended)
    times = watch.times(attempts=max(site.tries, 1))
    trail = _trail(delivered, ended, written=scope.written)
    return report_of(work, briefing, runtime, ended=ended, times=times, trail=trail)


async def _contribution(work: Claimed, briefing: Briefing, site: Site) -> str:
    """Run the subgraph behind the instance's middleware; what it gives to fan-in, as JSON text."""
    frame = site.frame
    node = frame.root.fan_out_at(frame.namespace)

    async def run_subgraph(state: "State") -> dict[str, Any]:
        site.started(state)
        with trying():
            end = await walk(node.subgraph, state, frame)
        return {name: getattr(end, name) for name in node.contributed_fields}

    chain = compose(node.instance_middleware, run_subgraph)
    with at(site):
        return _text(node, await chain(_first_state(node, work, briefing)), briefing.max_result_bytes)


async def _kept_safe(running: Awaitable[str], kept: Kept | None) -> str:
    """Await an instance; all that it has kept is safe before it is reported, however it ends."""
    if kept is None:
        return await running
    kept.begin()
    try:
        return await running
    finally:
        await kept.end()


def _first_state(node: "FanOutNode", work: Claimed, briefing: Briefing) -> "State":
    codec = node.subgraph.codec
    own, shared = codec.load_fields(work.item.decode()), codec.load_fields(briefing.inputs)
    return first_state(node.subgraph.state_class, {**shared, **own})


def _text(node: "FanOutNode", update: Any, limit_bytes: int) -> str:
    # A middleware may return less than the subgraph gives: what it leaves out is an empty place at fan-in.
    kept = {name: update[name] for name in node.contributed_fields if name in update}
    text = node.subgraph.codec.dump_fields(kept)
    size_bytes = len(text.encode())
    if size_bytes > limit_bytes:
        raise PayloadTooLarge("result", size_bytes, limit_bytes)
    return text


def _trail(delivered: Delivered, ended: Ended, *, written: Metadata) -> Trail:
    journal = delivered.journal
    positions = () if ended.outcome is Outcome.SUCCEEDED else journal.positions
    return Trail(folds=journal.folds, positions=positions, events=delivered.events, metadata=dict(written))


def _place(work: Claimed, briefing: Briefing) -> dict[str, object]:
    """Where an instance belongs, as the log says it."""
    return {"run_id": work.run_id, "node": briefing.fan_out.path, "index": work.slot.index, "delivery": work.delivery}
