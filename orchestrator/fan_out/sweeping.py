"""How lost deliveries, lost messages and declined instances come back into the window."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from orchestrator.checkpoint.protocol import Checkpointer
from orchestrator.checkpoint.row import Loss, Ownership
from orchestrator.errors import InstanceLost
from orchestrator.execution.lane import Lane, Options
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.identity import Slot
from orchestrator.ledger.view import Declined, Lapse, Overdue
from orchestrator.middleware.cause_chain import error_record
from orchestrator.report import Outcome, Report

log = logging.getLogger(__name__)

DECLINE_SECONDS = (1.0, 2.0, 4.0)
COMPANY_FACTOR = 3
"""So many times as often as alone an instance may be lost beside others, which may be to blame: a run must end."""


class Sweeper:
    """Looks after what is outstanding, once a second."""

    def __init__(self, lane: Lane, checkpointer: Checkpointer, ownership: Ownership, options: Options) -> None:
        self._lane = lane
        self._checkpointer = checkpointer
        self._ownership = ownership
        self._options = options

    async def sweep(self, fan_out: OpenFanOut) -> list[Report]:
        """Bring back what can run again; the reports of those that have lost their worker too often."""
        if not fan_out.outstanding:
            return []
        run_id, epoch = self._ownership.run_id, self._ownership.epoch
        found = await self._lane.ledger.sweep(run_id, epoch, tuple(fan_out.outstanding.values()))
        given_up = await self._bury(fan_out, found.lapsed)
        fan_out.bring_back(found.unknown)
        await self._tell_again(fan_out, found.overdue)
        self._defer(fan_out, found.declined)
        return given_up

    async def _bury(self, fan_out: OpenFanOut, lapsed: Sequence[Lapse]) -> list[Report]:
        if not lapsed:
            return []
        losses = [Loss(one.slot, one.owner, one.delivery, one.alone) for one in lapsed]
        charged = await self._checkpointer.record_losses(self._ownership, losses)
        fan_out.measured.lost(len(losses))
        for loss in losses:
            fan_out.deliveries.note(loss)
            fan_out.heard.lost(loss)
            told = {"delivery": loss.delivery, "worker": loss.worker}
            log.warning("delivery lost", extra={**self._place(fan_out, loss.slot), **told})
        unsettled = {slot: fan_out.deliveries.unsettled(slot, count) for slot, count in charged.items()}
        given_up = []
        for lapse, loss in zip(lapsed, losses, strict=True):
            # A worker that hands back what it held is stopped by somebody, and by none of its instances.
            fan_out.accompanied_losses[lapse.slot.index] += not (lapse.alone or lapse.handed_back)
            if self._is_spent(fan_out, lapse, unsettled.get(lapse.slot, 0)):
                given_up.append(self._lost(loss))
            else:
                self._try_again(fan_out, lapse)
        return given_up

    def _is_spent(self, fan_out: OpenFanOut, lapse: Lapse, losses: int) -> bool:
        accompanied = fan_out.accompanied_losses[lapse.slot.index]
        return losses >= self._options.max_deliveries or accompanied >= COMPANY_FACTOR * self._options.max_deliveries

    def _try_again(self, fan_out: OpenFanOut, lapse: Lapse) -> None:
        """Queue a lost one once more; one lost in company too often runs alone, which shows who is to blame."""
        if fan_out.accompanied_losses[lapse.slot.index] >= self._options.max_deliveries:
            fan_out.isolate(lapse.slot)
        else:
            fan_out.bring_back([lapse.slot])

    async def _tell_again(self, fan_out: OpenFanOut, overdue: Sequence[Overdue]) -> None:
        """A long queue is not a loss: word is passed again only where a later one was heard, or a place is free."""
        if overdue:
            briefing = fan_out.briefing
            capacity = await self._lane.executor.capacity(briefing.graph, briefing.fingerprint)
            fan_out.bring_back(one.slot for one in overdue if one.overtaken)
            waiting = [one.slot for one in overdue if not one.overtaken]
            fan_out.bring_back(waiting[: capacity.free])

    def _defer(self, fan_out: OpenFanOut, declined: Sequence[Declined]) -> None:
        for one in declined:
            if one.slot.index in fan_out.deferred:
                continue
            pause = DECLINE_SECONDS[min(fan_out.declines[one.slot.index], len(DECLINE_SECONDS) - 1)]
            fan_out.declines[one.slot.index] += 1
            fan_out.measured.declined()
            fan_out.deferred[one.slot.index] = (asyncio.get_running_loop().time() + pause, one.slot)
            told = {"worker": one.worker, "reason": one.reason}
            log.warning("instance declined", extra={**self._place(fan_out, one.slot), **told})

    def _place(self, fan_out: OpenFanOut, slot: Slot) -> dict[str, object]:
        """What a log line says of where an instance is; the rest of the run is in the context."""
        key = fan_out.plan.item_key(slot.index)
        named = {} if key is None else {"item_key": key}
        return {"run_id": self._ownership.run_id, "node": fan_out.plan.key.path, "index": slot.index, **named}

    def _lost(self, loss: Loss) -> Report:
        return Report(
            slot=loss.slot,
            outcome=Outcome.LOST,
            token="",
            delivery=loss.delivery,
            worker=loss.worker,
            invocation_id=self._ownership.invocation_id,
            started_at=datetime.now(UTC),
            duration_seconds=0.0,
            error=error_record(InstanceLost(loss.delivery, loss.worker)),
        )
