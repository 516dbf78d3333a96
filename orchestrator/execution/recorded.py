"""How the fan-outs of a run are brought to their end and recorded."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import Ownership
from orchestrator.crashpoint import crashpoint
from orchestrator.error_record import ErrorRecord
from orchestrator.execution.frame import Frame
from orchestrator.execution.lane import Options
from orchestrator.execution.patience import Patience
from orchestrator.execution.status import FanOutCount
from orchestrator.fan_out.deliveries import Deliveries
from orchestrator.fan_out.fan_in import fold_of
from orchestrator.fan_out.measured import Measured
from orchestrator.fan_out.plan import Plan, check_drift
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.recorder import Recorder
from orchestrator.instance.inline import brief
from orchestrator.observers.reported import ReportedEvents
from orchestrator.report import Report
from orchestrator.scope import note_instances
from orchestrator.tracing.current import current_span

if TYPE_CHECKING:
    from orchestrator.execution.journal import RunJournal


class RecordedFanOuts:
    """Runs fan-outs through a recorder, each in the lane that its `run_on` names.

    `forget` is called with the id of a fan-out that is wholly recorded: nothing needs its ledger any more.
    """

    def __init__(
        self,
        store: CheckpointStore,
        ownership: Ownership,
        options: Options,
        *,
        journal: "RunJournal",
        patience: Patience,
        recorders: dict[str, Recorder],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._ownership = ownership
        self._options = options
        self._journal = journal
        self._patience = patience
        self._recorders = recorders
        self._forget = forget
        self._seen: dict[str, OpenFanOut] = {}

    async def run(self, plan: Plan, frame: Frame) -> Sequence[Report]:
        row = plan.row(position=self._journal.position, max_item_bytes=self._options.max_item_bytes)
        kept = await self._patience.until_done(lambda: self._store.open_fan_out(self._ownership, row))
        check_drift(plan, kept)
        fan_out, failures = await self._patience.until_done(lambda: self._taken_up(plan, frame))
        fan_out.measured = Measured(self._options.meter, fan_out.briefing.graph, plan.key.path)
        heard = ReportedEvents(frame, plan.state, row, tell_themselves=plan.node.run_on == "orchestrator")
        heard.rolled_forward(fan_out.recorded, failures)
        fan_out.heard = heard
        fan_out.span = current_span()
        fan_out.span.note({"fan_out.rolled_forward": len(fan_out.recorded)})
        self._seen[fan_out.id] = fan_out
        await self._recorders[plan.node.run_on].complete(fan_out)
        note_instances(fan_out.written)
        await self._forget(fan_out.id)
        reports = await self._patience.until_done(lambda: self._contributions(plan))
        crashpoint("during_fold")
        frame.journal.folded(plan.key, fold_of(plan.key.id, reports))
        return reports

    def counts(self) -> tuple[FanOutCount, ...]:
        """How far each fan-out of this invocation is."""
        return tuple(
            FanOutCount(
                path=fan_out.plan.key.path,
                expected=fan_out.plan.count,
                recorded=len(fan_out.recorded),
                failed=fan_out.failed_count,
                outstanding=len(fan_out.outstanding),
            )
            for fan_out in self._seen.values()
        )

    async def _taken_up(self, plan: Plan, frame: Frame) -> tuple[OpenFanOut, dict[int, ErrorRecord]]:
        """The fan-out with what an earlier invocation has recorded of it, and the failures among that."""
        recorded, failures = Bitmap(plan.count), dict[int, ErrorRecord]()
        async for row in self._store.slots(self._ownership.run_id, plan.key.id):
            index, error = row.report.slot.index, row.report.error
            recorded.add(index)
            if error is not None:
                failures[index] = replace(error, traceback="")
        briefing = brief(plan, frame, max_result_bytes=self._options.max_item_bytes)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        inside = {index: one for index, one in self._journal.inside(plan.key).items() if index not in recorded}
        fan_out = OpenFanOut(plan, briefing, recorded, ended, failed_count=len(failures), inside=inside)
        fan_out.is_after_end = self._journal.is_after_end
        fan_out.deliveries = await self._deliveries(fan_out.id)
        return fan_out, failures

    async def _deliveries(self, fan_out: str) -> Deliveries:
        run_id = self._ownership.run_id
        failures = [row.report async for row in self._store.errors(run_id, fan_out)]
        return Deliveries.recorded(await self._store.losses(run_id, fan_out), failures)

    async def _contributions(self, plan: Plan) -> list[Report]:
        return [row.report async for row in self._store.slots(self._ownership.run_id, plan.key.id)]
