"""What the owner of a run remembers of its steps, and takes up again after a crash."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.migration import load_state
from orchestrator.checkpoint.protocol import Checkpointer
from orchestrator.checkpoint.row import FanOutRow, InnerRows, Ownership, SlotRow, Step
from orchestrator.execution.frame import Frame, Point
from orchestrator.execution.patience import Patience
from orchestrator.fan_out.entry import Entry, NestedOpened, NestedReported, NodeCompleted
from orchestrator.fan_out.fold import Fold
from orchestrator.fan_out.inside import Inside, insides
from orchestrator.identity import FanOutKey
from orchestrator.observers.event import SaveKind
from orchestrator.observers.site import Site
from orchestrator.scope import changed_metadata

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph
    from orchestrator.state import State

Place = tuple[tuple[str, ...], str]
"""A node's namespace and its name."""


class RunJournal:
    """The journal of a run: one appended step a completed node, and what instances tell of themselves while they run.

    `steps` and `fan_outs` are what the record holds when the run is taken up; `is_after_end` where the invocation
    before has ended, and has told what became of all its instances.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        ownership: Ownership,
        patience: Patience,
        *,
        steps: Sequence[Step],
        fan_outs: Sequence[FanOutRow],
        is_after_end: bool = False,
    ) -> None:
        self.is_after_end = is_after_end
        self._checkpointer = checkpointer
        self._ownership = ownership
        self._patience = patience
        own = [step for step in steps if not step.lineage]
        self._points = points(own)
        self._visits = next_visits(own, fan_outs)
        self._folds: dict[Place, Fold] = {}
        self._inner_fan_outs = [row for row in fan_outs if row.key.lineage]
        self._inner_steps = [step for step in steps if step.lineage]
        self._step = own[-1].step if len(own) > 1 else -1
        # Branches complete nodes at the same time, and each step has a position of its own.
        self._turn = asyncio.Lock()
        self.position = steps[-1].position + 1

    @property
    def next_step(self) -> int:
        """The number of the first node that this invocation executes."""
        return self._step + 1

    def resume_point(self, graph: "Graph[Any]", frame: Frame) -> Point | None:
        step = self._points.pop(frame.namespace, None)
        if step is None:
            return None
        state = load_state(graph, step.state, step.schema_version, frame.root.migrations)
        return Point(step.node, state, step.metadata)

    def enter(self, frame: Frame, node: str) -> FanOutKey:
        place = (frame.namespace, node)
        visit = self._visits.get(place, 0)
        self._visits[place] = visit + 1
        return FanOutKey(frame.namespace, node, frame.lineage, visit)

    def folded(self, key: FanOutKey, fold: Fold) -> None:
        self._folds[key.namespace, key.node] = fold

    async def save(self, graph: "Graph[Any]", site: Site, node: str, state: "State") -> None:
        frame = site.frame
        fold = self._folds.pop((frame.namespace, node), None)
        async with self._turn:
            # A subgraph's node is no step of its own: its last inner one is.
            self._step = self._step if site.is_silent else site.step
            step = Step(
                position=self.position,
                namespace=frame.namespace,
                node=node,
                state=graph.codec.dump(state),
                step=max(self._step, 0),
                attempt_index=site.attempt_index,
                invocation_id=self._ownership.invocation_id,
                schema_version=graph.state_class.schema_version,
                folds=() if fold is None else (fold,),
                metadata=changed_metadata(),
            )
            await self._patience.until_done(lambda: self._checkpointer.save_step(self._ownership, step))
            self.position += 1
        site.saved(SaveKind.NODE)

    def inside(self, key: FanOutKey) -> dict[int, Inside]:
        """What an earlier invocation has recorded inside the instances of a fan-out, by index."""
        return insides(key, self._inner_fan_outs, self._inner_steps)

    async def keep_inner(self, entries: Sequence[Entry]) -> InnerRows:
        """Record what has happened inside instances, in the order of the entries; the answer is what was recorded."""
        rows, steps, slots = [], [], []
        async with self._turn:
            for entry in entries:
                match entry:
                    case NestedOpened(row):
                        rows.append(replace(row, position=self.position))
                    case NodeCompleted(step):
                        steps.append(replace(step, position=self.position))
                        # Given out for good: a write that failed may have been done all the same.
                        self.position += 1
                    case NestedReported(report, key):
                        slots.append(SlotRow(report, key=key).as_kept)
            inner = InnerRows(fan_outs=rows, steps=steps, slots=slots)
            if rows or steps or slots:
                await self._checkpointer.record_inner(self._ownership, inner)
        return inner


def points(steps: Sequence[Step]) -> dict[tuple[str, ...], Step]:
    """Where each graph was: the last completed node of every level that is still open."""
    open_levels: dict[tuple[str, ...], Step] = {}
    for step in steps:
        # A graph goes on only when all inside its last node is over.
        for namespace in [level for level in open_levels if level[: len(step.namespace)] == step.namespace]:
            del open_levels[namespace]
        if step.node:
            open_levels[step.namespace] = step
    return open_levels


def next_visits(steps: Sequence[Step], fan_outs: Sequence[FanOutRow]) -> dict[Place, int]:
    """The visit that the next entry of each fan-out node has: the last one again, unless it is over."""
    ended = {(step.namespace, step.node): step.position for step in steps}
    visits: dict[Place, int] = {}
    for row in sorted(fan_outs, key=lambda row: row.key.visit):
        if row.key.lineage:
            continue
        place = (row.key.namespace, row.key.node)
        is_over = row.fold is not None or ended.get(place, -1) >= row.position
        visits[place] = row.key.visit + is_over
    return visits
