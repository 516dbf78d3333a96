"""How one instance is run: the heart, the same for the local executor and for Celery workers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.context import Cancellation, InstanceContext, entered
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import InstanceTimeLimitExceeded, PayloadTooLarge
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.cancelling import is_being_cancelled
from orchestrator.execution.frame import FanOuts, Frame
from orchestrator.execution.walk import walk
from orchestrator.fan_out.fold import Fold
from orchestrator.graph.projection import first_state
from orchestrator.identity import Level
from orchestrator.instance.inline import InlineFanOuts
from orchestrator.instance.journal import InstanceJournal
from orchestrator.instance.kept import Keep, Kept
from orchestrator.instance.output import OutputOptions, output_told
from orchestrator.ledger.claim import Claimed
from orchestrator.metadata import Metadata
from orchestrator.middleware.cause_chain import error_record
from orchestrator.middleware.chain import compose
from orchestrator.observers.emitter import Collected, Emitter, Path, Unheard
from orchestrator.observers.event import Event, Phase
from orchestrator.observers.site import Site, at, boundary_site
from orchestrator.observers.voice import Voice
from orchestrator.report import Outcome, Position, Report
from orchestrator.scope import trying
from orchestrator.tracing.current import within
from orchestrator.tracing.span import CANCELLED, as_step_failure
from orchestrator.tracing.tracing import Tracing, Untraced
from orchestrator.wire.event import encode

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph
    from orchestrator.graph.node import FanOutNode
    from orchestrator.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a process needs to run instances.

    `worker` is its name, as reports carry it. `find` gives the graph of a name and a fingerprint, or raises
    GraphNotFound. `fan_outs` runs the fan-outs that are nested in an instance; by default they run inline, here.
    `emitter` takes the events at once; without one they are collected and travel with the report.
    `tracing` opens the spans of what runs here, and `output` says how what it puts out is taken.
    `keep` stores what an instance tells while it runs; `kept` is the outermost instance's, for those nested in it.
    """

    worker: str
    find: Callable[[str, str], "Graph[Any]"]
    code_version: str | None = None
    fan_outs: FanOuts | None = None
    emitter: Emitter | None = None
    keep: Keep | None = None
    kept: Kept | None = None
    tracing: Tracing = field(default_factory=Untraced)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an instance ended, as a value."""

    outcome: Outcome
    partial: str | None = None
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """When an instance began, how long it took, and how often it was tried."""

    started_at: datetime
    duration_seconds: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What an instance leaves behind beside its contribution; see `Report`."""

    folds: tuple[Fold, ...] = ()
    positions: tuple[Position, ...] = ()
    events: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict)


@dataclass(slots=True)
class Attempts:
    """How often the instance was tried in this delivery."""

    count: int = field(default=0)


async def run_instance(work: Claimed, briefing: Briefing, runtime: Runtime, cancellation: Cancellation) -> Report:
    """Run one claimed instance; whatever happens becomes its report."""
    started_at, clock = datetime.now(UTC), time.perf_counter()
    attempts, collected = Attempts(), Collected(frozenset(map(Phase, briefing.events_wanted)))
    kept = runtime.kept or _kept(work, briefing, runtime, collected=collected)
    journal = InstanceJournal(briefing.fan_out.enclosing(work.slot.index), kept)
    telling = replace(runtime, emitter=runtime.emitter or collected, kept=kept)
    with entered(_context(work, briefing, cancellation)) as scope:
        voice = Voice(runtime.emitter or collected, work, briefing, runtime.worker)
        frame = _frame(work, briefing, telling, journal=journal, cancellation=cancellation, voice=voice)
        site = boundary_site(frame)
        call = _call(work, briefing, site, attempts)
        own = None if runtime.kept else kept
        voice.running(started_at)
        output = output_told(frame, work, runtime.output, worker=runtime.worker, kept=kept)
        with _traced(work, briefing, site, worker=runtime.worker) as tell, output as tell_error:
            ended = await attempt(call if own is None else _keeping(call, own), briefing, cancellation)
            tell(ended)
            tell_error(ended.error)
    times = Times(started_at, time.perf_counter() - clock, max(attempts.count, 1))
    trail = _trail(ended, journal, voice.left(collected), written=scope.written)
    return report_of(work, briefing, runtime, ended=ended, times=times, trail=trail)


def report_of(
    work: Claimed, briefing: Briefing, runtime: Runtime, *, ended: Ended, times: Times, trail: Trail | None = None
) -> Report:
    """The report of an instance that has ended."""
    trail = trail or Trail()
    return Report(
        slot=work.slot,
        outcome=ended.outcome,
        token=work.token,
        delivery=work.delivery,
        worker=runtime.worker,
        invocation_id=briefing.invocation_id,
        started_at=times.started_at,
        duration_seconds=times.duration_seconds,
        attempts=times.attempts,
        partial=ended.partial,
        error=ended.error,
        code_version=runtime.code_version,
        folds=trail.folds,
        positions=trail.positions,
        events=trail.events,
        metadata=trail.metadata,
    )


def never_begun(work: Claimed, briefing: Briefing, runtime: Runtime) -> Report:
    """The report of an instance that was stopped before it began."""
    return report_of(
        work, briefing, runtime, ended=Ended(Outcome.CANCELLED), times=Times(datetime.now(UTC), 0.0, attempts=0)
    )


def too_large(done: Report, limit_bytes: int) -> Report:
    """What is reported instead of a result that the ledger does not take."""
    error = PayloadTooLarge("result", len((done.partial or "").encode()), limit_bytes)
    return replace(done, outcome=Outcome.FAILED, partial=None, error=error_record(error, with_traceback=False))


async def attempt(call: Any, briefing: Briefing, cancellation: Cancellation) -> Ended:
    """Await one instance within its time limit and turn whatever happens into a value."""
    limit = briefing.time_limit_seconds
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return Ended(Outcome.SUCCEEDED, partial=await call)
    except asyncio.CancelledError as error:
        return _cancelled(error, cancellation)
    except TimeoutError as error:
        told = InstanceTimeLimitExceeded(limit) if limit is not None and scope.expired() else error
        return Ended(Outcome.FAILED, error=error_record(told))
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user raises ends its instance, and no worker
        return Ended(Outcome.FAILED, error=error_record(error))


def _cancelled(error: asyncio.CancelledError, cancellation: Cancellation) -> Ended:
    """What a cancellation comes to: a wish that was asked for, the end of this process, or the user's own doing."""
    task = asyncio.current_task()
    if task is None or not is_being_cancelled():
        return Ended(Outcome.FAILED, error=error_record(error))
    if not cancellation.is_requested:
        raise error
    task.uncancel()
    return Ended(Outcome.CANCELLED)


async def _call(work: Claimed, briefing: Briefing, site: Site, attempts: Attempts) -> str:
    """Run the subgraph behind the instance's middleware; its contribution as JSON text."""
    frame = site.frame
    node = frame.root.fan_out_at(frame.namespace)

    async def run_subgraph(state: "State") -> dict[str, Any]:
        attempts.count += 1
        site.started(state)
        with trying():
            end = await walk(node.subgraph, state, frame)
        return {name: getattr(end, name) for name in node.contributed_fields}

    chain = compose(node.instance_middleware, run_subgraph)
    with at(site):
        return _contribution(node, await chain(_first_state(node, work, briefing)), briefing)


@contextmanager
def _traced(work: Claimed, briefing: Briefing, site: Site, *, worker: str) -> Iterator[Callable[[Ended], None]]:
    """Run within the span of this delivery, which is told how the instance ended; one that is not was given up."""
    facts = {"fan_out.item_key": work.key, "delivery_attempt": work.delivery, "worker": worker}
    span = site.frame.tracing.instance(site, briefing.trace, facts)

    def tell(ended: Ended) -> None:
        span.note({"outcome": ended.outcome.value})
        stopped = CANCELLED if ended.outcome is Outcome.CANCELLED else None
        span.end(stopped if ended.error is None else as_step_failure(ended.error))

    try:
        with within(span):
            yield tell
    finally:
        span.end(CANCELLED)


async def _keeping(call: Awaitable[str], kept: Kept) -> str:
    """Await an instance; all that it has kept is safe before it is reported, however it ends."""
    kept.begin()
    try:
        return await call
    finally:
        await kept.end()


def _kept(work: Claimed, briefing: Briefing, runtime: Runtime, *, collected: Collected) -> Kept | None:
    if runtime.keep is None and not work.progress:
        return None
    return Kept(work, runtime.keep, invocation_id=briefing.invocation_id, events=lambda: _encoded(collected.take()))


def _trail(ended: Ended, journal: InstanceJournal, events: Sequence[tuple[Event, Path]], *, written: Metadata) -> Trail:
    positions = () if ended.outcome is Outcome.SUCCEEDED else journal.positions
    return Trail(folds=journal.folds, positions=positions, events=_encoded(events), metadata=dict(written))


def _encoded(events: Sequence[tuple[Event, Path]]) -> tuple[str, ...]:
    return tuple(encode(event, path) for event, path in events)


def _frame(
    work: Claimed,
    briefing: Briefing,
    runtime: Runtime,
    *,
    journal: InstanceJournal,
    cancellation: Cancellation,
    voice: Voice,
) -> Frame:
    key = briefing.fan_out
    run_nested = partial(run_instance, runtime=runtime, cancellation=cancellation)
    return Frame(
        run_id=briefing.run_id,
        invocation_id=briefing.invocation_id,
        correlation_id=briefing.correlation_id,
        root=runtime.find(briefing.graph, briefing.fingerprint),
        journal=journal,
        fan_outs=runtime.fan_outs or InlineFanOuts(run_nested, work, briefing.max_result_bytes, kept=runtime.kept),
        emitter=runtime.emitter or Unheard(),
        tracing=runtime.tracing,
        namespace=(*key.namespace, key.node),
        levels=(*briefing.levels, Level(key.node, index=work.slot.index)),
        lineage=key.enclosing(work.slot.index),
        voice=voice,
    )


def _first_state(node: "FanOutNode", work: Claimed, briefing: Briefing) -> "State":
    codec = node.subgraph.codec
    own, shared = codec.load_fields(work.item.decode()), codec.load_fields(briefing.inputs)
    return first_state(node.subgraph.state_class, {**shared, **own})


def _contribution(node: "FanOutNode", update: Any, briefing: Briefing) -> str:
    # A middleware may return less than the subgraph gives: what it leaves out is an empty place at fan-in.
    kept = {name: update[name] for name in node.contributed_fields if name in update}
    text = node.subgraph.codec.dump_fields(kept)
    size_bytes = len(text.encode())
    if size_bytes > briefing.max_result_bytes:
        raise PayloadTooLarge("result", size_bytes, briefing.max_result_bytes)
    return text


def _context(work: Claimed, briefing: Briefing, cancellation: Cancellation) -> InstanceContext:
    return InstanceContext(
        run_id=briefing.run_id,
        invocation_id=briefing.invocation_id,
        correlation_id=briefing.correlation_id,
        fan_out=briefing.fan_out,
        index=work.slot.index,
        item_key=work.key,
        token=work.token,
        delivery=work.delivery,
        cancellation=cancellation,
        metadata=briefing.metadata,
    )
