"""Which fan-outs of a run owe nothing, although they were not brought to their end."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.identity import FanOutKey


class Excuses:
    """Excuses a fan-out that was never folded and never will be.

    Its node was entered anew (a loop's turn, a retry), or went on without it (its failure was isolated); or what
    encloses it is over: an instance that is recorded, or an entry that owes nothing itself.
    """

    def __init__(self, rows: Sequence[FanOutRow], steps: Sequence[Step]) -> None:
        self._latest: dict[FanOutKey, int] = defaultdict(int)
        for row in rows:
            place = replace(row.key, visit=0)
            self._latest[place] = max(self._latest[place], row.key.visit)
        self._last_step = {(step.namespace, step.node, step.lineage): step for step in steps}
        self._recorded: dict[str, Bitmap] = {}
        self._excused: set[str] = set()

    def excuse(self, row: FanOutRow, recorded: Bitmap) -> bool:
        """Whether it owes nothing. Called with every fan-out, the enclosing ones first."""
        self._recorded[row.id] = recorded
        is_excused = row.fold is None and (self._is_behind(row) or self._is_enclosed_by_what_is_over(row.key))
        if is_excused:
            self._excused.add(row.id)
        return is_excused

    def _is_behind(self, row: FanOutRow) -> bool:
        if self._latest[replace(row.key, visit=0)] > row.key.visit:
            return True
        step = self._last_step.get((row.key.namespace, row.key.node, row.key.lineage))
        return step is not None and step.position >= row.position and all(fold.fan_out != row.id for fold in step.folds)

    def _is_enclosed_by_what_is_over(self, key: FanOutKey) -> bool:
        around = key.around
        if around is None or around.id not in self._recorded:
            return False
        return around.id in self._excused or key.lineage[-1].index in self._recorded[around.id]
