"""Where a run stands: counts by state, rate, and what is wrong."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from orchestrator.checkpoint.row import FanOutRow, Run, RunStatus
from orchestrator.errors import LedgerUnavailable
from rollforward.cli.instance import STATES, Unrecorded, error_json
from rollforward.cli.record import Record, redis_url
from rollforward.hosting import no_worker
from workers.capacity import has_graph
from workers.deafness import deafness
from workers.opening import open_worker_ledger
from workers.settings import Settings

DISPATCH_PAUSED = "dispatch paused:"
"""How an owner's health begins where nothing new is dispatched until something is put away."""
_RATE_OVER_ROWS = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a run or around it, and what to do."""

    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run stands; counts are over all its fan-outs."""

    run: Run
    total: int
    recorded: int
    counts: Mapping[str, int]
    fan_outs: Sequence[Mapping[str, Any]]
    rate_per_s: float
    problems: Sequence[Problem]

    @property
    def eta_s(self) -> float | None:
        left = self.total - self.recorded
        is_going_on = self.run.status is RunStatus.RUNNING and self.rate_per_s > 0
        return round(left / self.rate_per_s, 1) if is_going_on else None

    def to_json(self) -> dict[str, Any]:
        run = self.run
        return {
            "run_id": run.run_id,
            "invocation_id": run.invocation_id,
            "graph": run.graph,
            "fingerprint": run.fingerprint,
            "correlation_id": run.correlation_id,
            "metadata": dict(run.metadata),
            "status": run.status.value,
            "total": self.total,
            "recorded": self.recorded,
            "counts": dict(self.counts),
            "rate_per_s": round(self.rate_per_s, 2),
            "eta_s": self.eta_s,
            "problems": [problem.to_json() for problem in self.problems],
            "fan_outs": list(self.fan_outs),
            "created_at": run.created_at,
            "ended_at": run.ended_at,
            "owner": run.owner,
            "lease_until": run.lease_until,
            "is_cancel_requested": run.is_cancel_requested,
            "code_version": run.code_version,
            "error": error_json(run.error),
        }


async def standing(record: Record, settings: Settings) -> Standing:
    """Look at the record and, where it can be reached, at the ledger."""
    rows = await record.store.fan_outs(record.run.run_id)
    fan_outs = [await _counted(record, row) for row in rows]
    total, recorded = (sum(fan_out[name] for fan_out in fan_outs) for name in ("total", "recorded"))
    return Standing(
        run=record.run,
        total=total,
        recorded=recorded,
        counts={state: sum(fan_out["counts"][state] for fan_out in fan_outs) for state in STATES},
        fan_outs=fan_outs,
        rate_per_s=await _rate(record, rows[-1]) if rows else 0.0,
        problems=await _problems(record, settings, is_done=0 < total == recorded),
    )


async def _counted(record: Record, row: FanOutRow) -> dict[str, Any]:
    tally = await record.store.tally(record.run.run_id, row.id)
    rest = await Unrecorded.of(record, row)
    counts = rest.counts(row.instance_count - tally.recorded)
    counts.update(succeeded=tally.succeeded, failed=tally.failed, lost=tally.lost, cancelled=tally.cancelled)
    return {
        "fan_out": row.key.path,
        "visit": row.key.visit,
        "total": row.instance_count,
        "recorded": tally.recorded,
        "counts": {state: counts[state] for state in STATES},
        "losses": tally.losses,
        "folded": row.fold is not None,
    }


async def _rate(record: Record, row: FanOutRow) -> float:
    """Instances a second over the latest ones: they are dispatched in index order, so those stand close together."""
    tally = await record.store.tally(record.run.run_id, row.id)
    start = max(tally.recorded - _RATE_OVER_ROWS, 0)
    stop = tally.recorded + _RATE_OVER_ROWS
    slots = record.store.slots(record.run.run_id, row.id, start=start, stop=stop)
    times = sorted([slot.recorded_at async for slot in slots if slot.recorded_at is not None])[-_RATE_OVER_ROWS:]
    if len(times) < 2:
        return 0.0
    until = datetime.now(UTC) if record.run.status is RunStatus.RUNNING else times[-1]
    seconds = (max(until, times[-1]) - times[0]).total_seconds()
    return (len(times) - 1) / seconds if seconds > 0 else 0.0


async def _problems(record: Record, settings: Settings, *, is_done: bool) -> list[Problem]:
    run = record.run
    problems = []
    if run.status is RunStatus.ORPHANED:
        resume = f"its orchestrator is gone; `rollforward resume {run.run_id}` goes on with it"
        problems.append(Problem("orphaned", resume))
    if run.status is RunStatus.SUBMITTED and settings.redis_url is not None:
        problems.append(Problem("no_orchestrator", _waits_for_orchestrator(run)))
    if run.status is RunStatus.RUNNING and run.health:
        code = "dispatch_paused" if run.health.startswith(DISPATCH_PAUSED) else "health"
        problems.append(Problem(code, run.health))
    if record.live.problem is not None:
        problems.append(Problem("redis_away", record.live.problem))
    is_waiting = run.status in (RunStatus.RUNNING, RunStatus.SUBMITTED, RunStatus.ORPHANED)
    if is_waiting and record.live.is_there and not is_done:
        problems.extend(await asyncio.to_thread(_worker_problems, run, settings))
    return problems


def _waits_for_orchestrator(run: Run) -> str:
    return (
        f"no orchestrator drives it: it waits for a `rollforward serve` that has graph {run.graph} (fingerprint "
        f"{run.fingerprint}) and room; `rollforward resume {run.run_id}` drives it from here"
    )


def _worker_problems(run: Run, settings: Settings) -> list[Problem]:
    ledger = open_worker_ledger(settings.model_copy(update={"redis_url": redis_url(settings)}))
    try:
        workers = ledger.workers()
    except LedgerUnavailable as error:
        return [Problem("redis_away", str(error))]
    finally:
        ledger.close()
    able = [worker for worker in workers if has_graph(worker, run.graph, run.fingerprint)]
    if not able:
        return [Problem("no_worker", _nobody(run, workers))]
    refusing = [str(worker["worker"]) for worker in able if worker.get("refused_messages")]
    problems = [Problem("messages_refused", _messages_refused(refusing))] if refusing else []
    sentences = (deafness(worker, settings) for worker in able)
    return [*problems, *(Problem("worker_consumes_nothing", sentence) for sentence in sentences if sentence)]


def _nobody(run: Run, workers: Sequence[Mapping[str, object]]) -> str:
    """Nobody has the run's graph; where others have another version of it, how to go on with that."""
    sentence = no_worker(run.graph, run.fingerprint)
    known = (pair for worker in workers for pair in cast("Sequence[Sequence[str]]", worker.get("graphs") or ()))
    versions = sorted({fingerprint for name, fingerprint in known if name == run.graph})
    if not versions:
        return sentence
    left = "stop what drives it, then " if run.status is RunStatus.RUNNING else ""
    return (
        f"{sentence}. Live workers have another version of it ({', '.join(versions)}): {left}"
        f"`rollforward resume {run.run_id} --accept-code`, where that version is, goes on with it"
    )


def _messages_refused(workers: Sequence[str]) -> str:
    return (
        f"{', '.join(workers)} refused messages, see its log; most likely ROLLFORWARD_SECRET is not the same there as "
        "where the run is driven"
    )
