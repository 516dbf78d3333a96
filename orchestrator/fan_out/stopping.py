"""How a fan-out comes to its end: with all of it recorded, or stopped by its first failure."""

import asyncio

from orchestrator.checkpoint.row import Ownership
from orchestrator.errors import RemoteError
from orchestrator.execution.lane import Lane, Options
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.ledger.view import LiveState


class Stopper:
    """Stops what runs under `fail_fast`, and resolves fan-outs that have come to their end."""

    def __init__(self, lane: Lane, ownership: Ownership, options: Options) -> None:
        self._lane = lane
        self._ownership = ownership
        self._options = options

    async def stop(self, fan_out: OpenFanOut) -> None:
        """After a failure nothing new starts, what runs is told, and what ends meanwhile is still recorded."""
        if fan_out.failure is None or fan_out.gives_up_at is not None:
            return
        await self.cancel(fan_out)
        await self.await_only_started(fan_out)
        fan_out.gives_up_at = asyncio.get_running_loop().time() + 2 * self._options.heartbeat.total_seconds()

    async def cancel(self, fan_out: OpenFanOut) -> None:
        """Set the durable flag, and tell what runs in this process at once."""
        await self._lane.ledger.cancel(self._ownership.run_id, self._ownership.epoch, fan_out=fan_out.id)
        await self._lane.executor.cancel(self._ownership.run_id, fan_out.id)

    async def await_only_started(self, fan_out: OpenFanOut) -> None:
        """Wait no more for what was queued: no worker takes it now."""
        live = await self._lane.ledger.live(self._ownership.run_id, fan_out.id)
        started = [one for one in live if one.state is not LiveState.QUEUED]
        fan_out.outstanding = {one.slot.index: one.slot for one in started}
        fan_out.workers = {one.slot.index: one.worker for one in started if one.worker is not None}

    def settle(self, fan_out: OpenFanOut) -> None:
        """Resolve a fan-out that has come to its end."""
        if fan_out.ended.done():
            return
        if fan_out.failure is None:
            if fan_out.is_complete:
                fan_out.ended.set_result(None)
        elif self._is_over(fan_out) and fan_out.failure.error is not None:
            fan_out.stopped()
            index = fan_out.failure.slot.index
            fan_out.ended.set_exception(RemoteError(fan_out.failure.error, index=index))

    def _is_over(self, fan_out: OpenFanOut) -> bool:
        if fan_out.gives_up_at is None:
            return False
        return not fan_out.outstanding or asyncio.get_running_loop().time() >= fan_out.gives_up_at
