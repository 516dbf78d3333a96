"""How a fan-out that is nested in an instance runs: here, inside that instance's one task."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import RemoteError
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.frame import Frame
from orchestrator.fan_out.fan_in import fold_of
from orchestrator.identity import Slot
from orchestrator.instance.kept import Kept
from orchestrator.ledger.claim import Claimed
from orchestrator.metadata import Gathered
from orchestrator.observers.event import Phase
from orchestrator.observers.voice import Voice
from orchestrator.report import Outcome, Report
from orchestrator.scope import get_invocation_metadata, note_instances
from orchestrator.tracing.current import current_span

if TYPE_CHECKING:
    from orchestrator.fan_out.plan import Plan

RunClaimed = Callable[[Claimed, Briefing], Awaitable[Report]]


class InlineFanOuts:
    """Runs nested instances as tasks of this loop, under the fan-out's own concurrency.

    With `kept`, one that has contributed in an earlier delivery of the outer instance is not run again.
    """

    def __init__(self, run: RunClaimed, outer: Claimed, max_result_bytes: int, *, kept: Kept | None = None) -> None:
        self._run = run
        self._outer = outer
        self._max_result_bytes = max_result_bytes
        self._kept = kept

    async def run(self, plan: "Plan", frame: Frame) -> Sequence[Report]:
        if self._kept is None:
            return await self._run_all(plan, frame, {})
        key, found = self._kept.enter(plan.nested_row())
        plan = replace(plan, key=key)
        reports = await self._run_all(plan, frame, found)
        frame.journal.folded(key, fold_of(key.id, reports))
        return reports

    async def _run_all(self, plan: "Plan", frame: Frame, found: Mapping[int, Report]) -> list[Report]:
        briefing = brief(plan, frame, max_result_bytes=self._max_result_bytes)
        limit = plan.concurrency if isinstance(plan.concurrency, int) else plan.count
        places = asyncio.Semaphore(limit)
        span = current_span()
        span.note({"fan_out.rolled_forward": len(found)})

        async def one(index: int) -> Report:
            if index in found:
                return found[index]
            async with places:
                work = self._claimed(plan, briefing, index)
                span.dispatched(index, work.delivery)
                report = await self._run(work, briefing)
            if not self._is_kept(plan, report):
                Voice(frame.emitter, work, briefing, report.worker).ended(report)
            return self._taken(plan, report)

        reports = await _all_or_first_failure([one(index) for index in range(plan.count)])
        written = Gathered()
        for report in reports:
            written.add(report.slot.index, report.metadata)
        note_instances(written)
        return reports

    def _taken(self, plan: "Plan", report: Report) -> Report:
        """The report, kept where it is a contribution."""
        if report.error is not None and plan.node.error_policy == "fail_fast":
            raise RemoteError(report.error, index=report.slot.index)
        if self._kept is not None and self._is_kept(plan, report):
            self._kept.add(report, plan.item_key(report.slot.index))
            current_span().saved(report.slot.index, report.delivery)
        return report

    def _is_kept(self, plan: "Plan", report: Report) -> bool:
        """Whether its instance contributes, and its orchestrator records that and tells of it."""
        has_failed = report.error is not None and plan.node.error_policy == "fail_fast"
        is_keeping = self._kept is not None and self._kept.is_keeping
        return is_keeping and not has_failed and report.outcome is not Outcome.CANCELLED

    def _claimed(self, plan: "Plan", briefing: Briefing, index: int) -> Claimed:
        return Claimed(
            run_id=briefing.run_id,
            slot=Slot(plan.key.id, index),
            token=self._outer.token,
            delivery=self._outer.delivery,
            item=plan.item(index).encode(),
            briefing_hash="",
            key=plan.item_key(index),
            tags=plan.item_tags(index),
        )


def brief(plan: "Plan", frame: Frame, *, max_result_bytes: int) -> Briefing:
    """What the instances of a plan share."""
    limit = plan.node.time_limit
    return Briefing(
        run_id=frame.run_id,
        invocation_id=frame.invocation_id,
        correlation_id=frame.correlation_id,
        graph=frame.root.name,
        fingerprint=frame.root.fingerprint,
        fan_out=plan.key,
        inputs=plan.inputs,
        instance_count=plan.count,
        max_result_bytes=max_result_bytes,
        time_limit_seconds=None if limit is None else limit.total_seconds(),
        levels=frame.levels,
        events_wanted=tuple(phase.value for phase in Phase if phase.travels and frame.emitter.wants(phase)),
        trace=current_span().carrier(plan.count),
        metadata=dict(get_invocation_metadata()),
    )


async def _all_or_first_failure(running: Sequence[Awaitable[Report]]) -> list[Report]:
    tasks = [asyncio.ensure_future(one) for one in running]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
