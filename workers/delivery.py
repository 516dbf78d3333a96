"""What a worker does with one message, step by step."""

import asyncio
import logging
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import replace
from functools import partial

from orchestrator.errors import GraphNotFound, LedgerLost, PayloadTooLarge
from orchestrator.execution.briefing import Briefing
from orchestrator.fan_out.instance import run_instance
from orchestrator.ledger.claim import ClaimAnswer, Reported
from orchestrator.report import CauseLink, ErrorRecord, Outcome, Report
from workers.lease import Lease
from workers.message import Message, decode
from workers.persistence import insist
from workers.runtime import ProcessRuntime

logger = logging.getLogger(__name__)


def deliver(text: object, process: ProcessRuntime) -> list[Report]:
    """Run the instances of a message that are free to run; give the reports that the ledger took.

    Raises:
        MessageRefused: the message is not ours.
    """
    message = decode(text, process.seal)
    try:
        process.runtime.find(message.graph, message.fingerprint)
    except GraphNotFound as error:
        _decline(message, process, str(error))
        return []
    leases = claim(message, process)
    try:
        return list(_report_each(leases, process))
    finally:
        for lease in leases:
            process.leases.remove(lease)


def claim(message: Message, process: ProcessRuntime) -> list[Lease]:
    """Claim what a message names; what is done, busy, cancelled or unknown is left alone."""
    ask = partial(
        process.ledger.claim,
        message.run_id,
        message.slots,
        owner=process.owner,
        token=secrets.token_hex(16),
        ttl_seconds=process.settings.lease_seconds,
    )
    leases = [lease for answer in insist(ask) or () if (lease := _lease_of(answer, message)) is not None]
    for lease in leases:
        process.leases.add(lease)
    return leases


def report(done: Report, lease: Lease, process: ProcessRuntime) -> bool:
    """Store a report, however long the ledger is away; false where it is not wanted any more."""
    run_id = lease.work.run_id
    answers = insist(partial(process.ledger.report, run_id, [done]), unless=lambda: lease.is_lost)
    answer = answers[0] if answers else Reported.STALE
    if answer is Reported.TOO_LARGE and done.outcome is not Outcome.FAILED:
        return report(_too_large(done, process.settings.max_item_bytes), lease, process)
    if answer is not Reported.OK:
        logger.info("report not taken", extra={"run_id": run_id, "index": done.slot.index, "answer": answer.value})
    return answer is Reported.OK


def _lease_of(answer: ClaimAnswer, message: Message) -> Lease | None:
    if answer.claimed is None:
        logger.info("instance left alone", extra={"run_id": message.run_id, "verdict": answer.verdict.value})
        return None
    return Lease(answer.claimed)


def _decline(message: Message, process: ProcessRuntime, reason: str) -> None:
    logger.warning("instance declined", extra={"run_id": message.run_id, "reason": reason})
    worker = process.runtime.worker
    insist(partial(process.ledger.decline, message.run_id, message.slots, worker=worker, reason=reason))


def _report_each(leases: Sequence[Lease], process: ProcessRuntime) -> Iterator[Report]:
    """Run all at once and report each as it ends, on this thread: a blocked loop cannot hold a report up."""
    running = {started: lease for lease in leases if (started := _start(lease, process)) is not None}
    for ended in as_completed(running) if len(running) > 1 else running:
        done = ended.result()
        if report(done, running[ended], process):
            yield done


def _start(lease: Lease, process: ProcessRuntime) -> Future[Report] | None:
    try:
        briefing = insist(partial(process.briefing_of, lease.work), unless=lambda: lease.is_lost)
    except LedgerLost as error:
        logger.warning("instance left alone", extra={"run_id": lease.work.run_id, "reason": str(error)})
        return None
    return None if briefing is None else process.loop.start(_run(lease, briefing, process))


async def _run(lease: Lease, briefing: Briefing, process: ProcessRuntime) -> Report:
    lease.task = asyncio.current_task()
    if lease.cancellation.is_requested and lease.task is not None:
        lease.task.cancel()
    return await run_instance(lease.work, briefing, process.runtime, lease.cancellation)


def _too_large(done: Report, limit_bytes: int) -> Report:
    error = PayloadTooLarge("result", len(done.to_json()), limit_bytes)
    link = CauseLink(error.category, str(error), type(error).__name__)
    record = ErrorRecord(link.category, link.message, link.type, chain=(link,))
    return replace(done, outcome=Outcome.FAILED, partial=None, error=record)
