"""What is recorded at one moment is recorded ever after, and the same."""

from collections.abc import Mapping
from typing import Any

from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import SlotRow


class Snapshots:
    """The latest sight of each run's recorded slots."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[str, int], Any]] = {}

    async def take(self, store: CheckpointStore, run_id: str) -> list[str]:
        """Look at a run; what has changed or is gone since the last time."""
        now: dict[tuple[str, int], Any] = {}
        for row in await store.fan_outs(run_id):
            async for slot in store.slots(run_id, row.id):
                now[row.id, slot.report.slot.index] = _facts(slot)
        before = self._seen.get(run_id, {})
        self._seen[run_id] = now
        return [f"{run_id}: {what}" for what in differences(before, now)]


def differences(before: Mapping[Any, Any], now: Mapping[Any, Any]) -> list[str]:
    """What was there and is not, or is something else now."""
    changed = [place for place, kept in before.items() if now.get(place) != kept]
    return [f"{place} was recorded as {before[place]}, now as {now.get(place)}" for place in changed]


def _facts(slot: SlotRow) -> tuple[Any, ...]:
    report = slot.report
    return report.token, report.delivery, report.outcome, report.partial, slot.recorded_at
