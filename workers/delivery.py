"""What a worker does with one message, step by step."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from functools import partial

from orchestrator.crashpoint import crashpoint
from orchestrator.errors import GraphNotFound, InstanceTimeLimitExceeded, LedgerLost
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.function import abandoned_functions
from orchestrator.identity import Slot
from orchestrator.instance.reporting import too_large
from orchestrator.instance.run import run_instance
from orchestrator.ledger.claim import ClaimAnswer, Reported
from orchestrator.metrics.metric import WORKER_DECLINED, WORKER_DELIVERIES, WORKER_REPORTS
from orchestrator.report import Outcome, Report
from workers.lease import Lease
from workers.message import CANARY_RUN_ID, Message, decode
from workers.persistence import insist
from workers.runtime import ProcessRuntime

logger = logging.getLogger(__name__)

HARD_LIMIT_SHARE = 0.9
"""The pool's clock for the limit starts a little before or after this process's own."""


def deliver(text: object, process: ProcessRuntime, *, began: float | None = None) -> list[Report]:
    """Run the instances of a message that are free to run; give the reports that the ledger took.

    `began` is when this process was given the message, by its monotonic clock; by default now.

    Raises:
        MessageRefused: the message is not ours.
    """
    began = time.monotonic() if began is None else began
    message = decode(text, process.seal)
    try:
        process.runtime.find(message.graph, message.fingerprint)
    except GraphNotFound as error:
        _decline(message, process, str(error))
        return []
    leases: list[Lease] = []
    try:
        crashpoint("after_delivery_before_claim")
        leases += claim(message, process)
        return list(_report_each(leases, process))
    except SystemExit:
        # Only a signal raises it here, which asks this process to end: what it holds is for others at once.
        process.abandon(has_died=_is_past_hard_limit(began, process))
        raise
    finally:
        for lease in leases:
            process.leases.remove(lease)


def claim(message: Message, process: ProcessRuntime) -> list[Lease]:
    """Claim what a message names; what is done, busy, cancelled, unknown or a canary is left alone."""
    with process.leases.coming(message.run_id) as in_company:
        ask = partial(
            process.ledger.claim,
            message.run_id,
            message.slots,
            owner=process.owner,
            token=secrets.token_hex(16),
            ttl_seconds=process.settings.lease_seconds,
            in_company=in_company,
        )
        answers = zip(message.slots, insist(ask) or (), strict=True)
        leases = [lease for slot, answer in answers if (lease := _lease_of(slot, answer, message)) is not None]
        process.meter.add(WORKER_DELIVERIES, (message.graph,), len(leases))
        for lease in leases:
            lease.is_told = in_company
            # Only pools of processes hand out messages on the main thread: one at a time.
            lease.is_alone = len(leases) == 1 and threading.current_thread() is threading.main_thread()
            process.leases.add(lease)
            crashpoint("after_claim_before_run")
    return leases


def report(done: Report, lease: Lease, process: ProcessRuntime) -> bool:
    """Store a report, however long the ledger is away; false where it is not wanted any more."""
    run_id = lease.work.run_id
    answers = insist(partial(process.ledger.report, run_id, [done]), unless=lambda: lease.is_lost)
    answer = answers[0] if answers else Reported.STALE
    process.meter.add(WORKER_REPORTS, (answer.value,))
    if answer is Reported.TOO_LARGE and done.outcome is not Outcome.FAILED:
        return report(too_large(done, process.settings.max_item_bytes), lease, process)
    if answer is not Reported.OK:
        logger.info("report not taken", extra={**lease.place, "answer": answer.value})
    return answer is Reported.OK


def _lease_of(slot: Slot, answer: ClaimAnswer, message: Message) -> Lease | None:
    if answer.claimed is None:
        facts = {"run_id": message.run_id, "graph": message.graph, "index": slot.index, "verdict": answer.verdict.value}
        logger.info("instance left alone", extra=facts)
        return None
    if message.run_id == CANARY_RUN_ID:
        # It has come to its end: there is nothing to run, and its sender may have taken it back already.
        logger.info("canary heard", extra={"index": slot.index})
        return None
    return Lease(answer.claimed)


def _decline(message: Message, process: ProcessRuntime, reason: str) -> None:
    indexes = [slot.index for slot in message.slots]
    facts = {"run_id": message.run_id, "graph": message.graph, "index": indexes}
    logger.warning("instance declined", extra={**facts, "reason": reason})
    worker = process.runtime.worker
    process.meter.add(WORKER_DECLINED, (), len(indexes))
    insist(partial(process.ledger.decline, message.run_id, message.slots, worker=worker, reason=reason))


def _report_each(leases: Sequence[Lease], process: ProcessRuntime) -> Iterator[Report]:
    """Run all at once and report each as it ends, on this thread: a blocked loop cannot hold a report up."""
    running = {started: lease for lease in leases if (started := _start(lease, process)) is not None}
    for ended in as_completed(running) if len(running) > 1 else running:
        done = ended.result()
        crashpoint("after_run_before_report")
        is_taken = report(done, running[ended], process)
        process.leases.remove(running[ended])
        crashpoint("after_report_before_ack")
        _look_for_what_goes_on(done, running[ended], process)
        if is_taken:
            yield done


def _start(lease: Lease, process: ProcessRuntime) -> Future[Report] | None:
    try:
        briefing = lease.briefing = insist(partial(process.briefing_of, lease.work), unless=lambda: lease.is_lost)
        if briefing is not None:
            process.runtime.find(briefing.graph, briefing.fingerprint)
    except (LedgerLost, GraphNotFound) as error:
        logger.warning("instance left alone", extra={**lease.place, "reason": str(error)})
        return None
    except ValueError as error:
        logger.error("briefing refused", extra={**lease.place, "reason": str(error)})
        _let_go(lease, process)
        return None
    if briefing is None:
        return None
    process.begin(lease)
    return process.loop.start(_run(lease, briefing, process))


def _let_go(lease: Lease, process: ProcessRuntime) -> None:
    """End a lease: what it is for counts as lost with this delivery."""
    process.leases.remove(lease)
    insist(partial(process.ledger.beat, lease.work.run_id, [lease.held], ttl_seconds=0))


async def _run(lease: Lease, briefing: Briefing, process: ProcessRuntime) -> Report:
    lease.task = asyncio.current_task()
    if lease.cancellation.is_requested and lease.task is not None:
        # When it waits first: one that never waits would come to its end cancelled, and without a report.
        asyncio.get_running_loop().call_soon(lease.task.cancel)
    runtime = process.lone_runtime if lease.is_alone else process.runtime
    return await run_instance(lease.work, briefing, runtime, lease.cancellation)


def _look_for_what_goes_on(done: Report, lease: Lease, process: ProcessRuntime) -> None:
    """Have this process make way where a plain function goes on past the time limit of its instance."""
    functions = abandoned_functions()
    if functions and done.error is not None and done.error.category == InstanceTimeLimitExceeded.category:
        process.is_spent = True
        facts = {**lease.place, "functions": functions}
        logger.warning("plain function goes on past its time limit, only the end of its process ends it", extra=facts)


def _is_past_hard_limit(began: float, process: ProcessRuntime) -> bool:
    """Whether the signal came from the pool, because the hard limit is over: then the work itself is to blame."""
    limit = process.settings.hard_limit_seconds
    return limit is not None and time.monotonic() - began >= limit * HARD_LIMIT_SHARE
