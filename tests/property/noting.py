"""What a run has recorded by now, and what its invocations execute."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.checkpoint.row import InnerRows, Ownership, SlotRow, Step
from tests.property import plan_graph
from tests.property.execution import Execution, Instance, Place, this_execution


class Noting:
    """A store that tells what it has by now.

    `saved` counts the nodes outside any instance, `kept` those inside one that has not ended. Of the instances,
    `recorded` has those that succeeded and `failed` those whose failure is a result.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.recorded: set[Instance] = set()
        self.failed: set[Instance] = set()
        self.saved: Counter[Place] = Counter()
        self.kept: Counter[Execution] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        answer: int = await self._inner.record(ownership, rows)
        self._note(rows)
        return answer

    async def record_inner(self, ownership: Ownership, inner: InnerRows) -> None:
        await self._inner.record_inner(ownership, inner)
        self._note(inner.slots)
        self.kept.update(Execution((step.namespace, step.node), step.lineage) for step in inner.steps)

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        await self._inner.save_step(ownership, step)
        self.saved[step.namespace, step.node] += 1

    def has_any(self, instances: Iterable[Instance]) -> bool:
        return not (self.recorded | self.failed).isdisjoint(instances)

    def _note(self, rows: Iterable[SlotRow]) -> None:
        for report in (row.report for row in rows if row.is_contribution):
            (self.recorded if report.error is None else self.failed).add((report.slot.fan_out, report.slot.index))


class Executions:
    """What one invocation executes: how often each node of each instance, and each one outside any.

    `again` has what was executed inside of an instance that was recorded by then. `kept_before` are the nodes inside
    instances that earlier invocations kept, `begun_before` those instances.
    """

    def __init__(self, store: Noting) -> None:
        self._store = store
        self._recorded_before = store.recorded.copy()
        self._saved_before = store.saved.copy()
        self.kept_before = store.kept.copy()
        self.begun_before = {one.instances[-1] for one in store.kept}
        self.inside: Counter[Execution] = Counter()
        self.outside: Counter[Place] = Counter()
        self.again: list[Execution] = []

    def __call__(self) -> None:
        execution = this_execution()
        if self._store.has_any(execution.instances):
            self.again.append(execution)
        if execution.lineage:
            self.inside[execution] += 1
        elif execution.attempt_index == 0:
            self.outside[execution.place] += 1

    def end(self) -> None:
        self.recorded_here = self._store.recorded - self._recorded_before
        self.unsaved = self.outside - (self._store.saved - self._saved_before)

    def of(self, instances: Iterable[Instance]) -> Counter[Execution]:
        """The executions of the instances' own nodes."""
        wanted = set(instances)
        return Counter({one: count for one, count in self.inside.items() if one.instances[-1] in wanted})


@contextmanager
def witnessed(store: Noting) -> Iterator[Executions]:
    """Look on while an invocation runs."""
    executions = Executions(store)
    plan_graph.WITNESSES.append(executions)
    try:
        yield executions
    finally:
        plan_graph.WITNESSES.remove(executions)
        executions.end()
