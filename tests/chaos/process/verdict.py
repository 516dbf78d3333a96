"""The offline checker: what the executions said, the faults, and what the store has in the end."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from orchestrator.checkpoint.row import RunStatus, SlotRow
from orchestrator.checkpoint.verify import verify
from tests.chaos.process.deployment import Deployment, NotWithin
from tests.chaos.process.field import Fault
from tests.chaos.process.history import Execution
from tests.graph.witnessed import is_failing

LETTING_GO_SECONDS = 10.0
REPORTING_SECONDS = 2.0
"""An execution may have stopped so long before its process dies, and its report not be stored yet."""


@dataclass(slots=True)
class Verdict:
    """What was counted over the runs; `wrong` says in sentences what does not hold."""

    runs: int = 0
    instances: int = 0
    executions: int = 0
    lost: int = 0
    duplicated: int = 0
    hung: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def wasted(self) -> int:
        return self.executions - self.instances

    @property
    def is_good(self) -> bool:
        return not self.lost + self.duplicated + self.hung and not self.wrong

    def __add__(self, other: "Verdict") -> "Verdict":
        names = ("runs", "instances", "executions", "lost", "duplicated", "hung")
        counts = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Verdict(**counts, wrong=[*self.wrong, *other.wrong])


async def judged(deployment: Deployment, instances: int, faults: Sequence[Fault]) -> Verdict:
    """Judge every run that was submitted, when nothing goes on any more."""
    deployment.history.read()
    verdict = Verdict()
    for run_id in deployment.submitted:
        await _judge(run_id, deployment, instances, faults, verdict)
    verdict.wrong += await _keys_left_for_good(deployment)
    return verdict


async def _judge(
    run_id: str, deployment: Deployment, instances: int, faults: Sequence[Fault], verdict: Verdict
) -> None:
    store = deployment.store
    executions = deployment.history.of(run_id)
    verdict.runs += 1
    verdict.instances += instances
    verdict.executions += sum(map(len, executions.values()))
    run = await store.find(run_id)
    slots = [slot async for row in _each(await store.fan_outs(run_id)) async for slot in store.slots(run_id, row.id)]
    counted = Counter(slot.report.slot.index for slot in slots)
    verdict.lost += instances - len(counted)
    verdict.duplicated += sum(counted.values()) - len(counted)
    verdict.wrong += [f"{run_id}: {what}" for what in wrong_slots(slots, executions, faults)]
    verdict.wrong += [f"{run_id}: {what}" for what in unexplained(executions, faults, _moments(slots))]
    if run.status is not RunStatus.SUCCEEDED:
        verdict.hung += 1
        verdict.wrong.append(f"{run_id} is {run.status.value}: {run.health or run.error}")
        return
    proof = await verify(store, run_id, has_succeeded=True)
    if not proof.ok:
        verdict.wrong.append(f"{run_id}: verify says {proof.to_json()}")
    if run != deployment.over[run_id]:
        verdict.wrong.append(f"{run_id} was over as {deployment.over[run_id]}, now {run}")
    steps = await store.steps(run_id)
    verdict.duplicated += _merged_twice(json.loads(steps[-1].state), instances)
    verdict.wrong += [f"{run_id}: {what}" for what in wrong_state(json.loads(steps[-1].state), instances)]


async def _each(rows):
    for row in rows:
        yield row


def _merged_twice(state, instances: int) -> int:
    """How many contributions there are beyond those of a serial run."""
    return max(0, len(state["squares"]) + len(state["errors"]) - instances)


def wrong_state(state, instances: int) -> Iterator[str]:
    numbers = range(instances)
    squares = [number**2 for number in numbers if not is_failing(number)]
    failed = [str(number) for number in numbers if is_failing(number)]
    if state["squares"] != squares or state["total"] != sum(squares):
        yield f"its squares are {state['squares']} with the sum {state['total']}"
    if [error["fan_out_index"] for error in state["errors"]] != failed:
        yield f"its errors are {state['errors']}"


def wrong_slots(
    slots: Sequence[SlotRow], executions: dict[int, list[Execution]], faults: Sequence[Fault]
) -> Iterator[str]:
    """Records under a token that no execution had, or that another claim had superseded when it was accepted."""
    for slot in slots:
        report = slot.report
        at, index = executions.get(report.slot.index, []), report.slot.index
        own = next((one for one in at if one.token == report.token), None)
        if own is None:
            yield f"{index} is recorded under a token that no execution had: {report}"
            continue
        if own.stopped is None:
            yield f"{index} is recorded, and its execution has not stopped: {own}"
            continue
        later = [one for one in at if own.began < one.began < own.stopped]
        # A ledger that lost its last second has also lost that it granted another claim.
        if later and not any(fault.is_global and fault.until > own.began for fault in faults):
            yield f"{index} is recorded under a superseded token: {own}, though {later} had begun"


def _moments(slots: Sequence[SlotRow]) -> dict[int, float]:
    """When each index was recorded, by the clock of the executions."""
    ahead = time.time() - time.monotonic()
    return {slot.report.slot.index: slot.recorded_at.timestamp() - ahead for slot in slots if slot.recorded_at}


def unexplained(
    executions: Mapping[int, list[Execution]], faults: Sequence[Fault], recorded: Mapping[int, float]
) -> Iterator[str]:
    """Executions after another one that no fault made void; `recorded` says when each index was."""
    for index, found in executions.items():
        for before, after in pairwise(found):
            if not any(_made_void(before, after, fault, recorded.get(index, inf)) for fault in faults):
                near = [fault for fault in faults if before.began - 30 < fault.at < after.began]
                yield f"{index} was executed again, and no fault explains it: {before} {after}, among {near}"


def _made_void(before: Execution, after: Execution, fault: Fault, recorded: float) -> bool:
    """Whether a fault hit its process while it went on, or took the ledger from all that was not recorded by then."""
    if fault.at > after.began or fault.until < before.began:
        return False
    if fault.is_global:
        return recorded >= fault.at
    stopped = before.stopped if before.stopped is not None else after.began
    return before.pid in fault.pids and stopped >= fault.at - REPORTING_SECONDS


async def _keys_left_for_good(deployment: Deployment) -> list[str]:
    """What is left a while after the last run was over: an orchestrator lets go of a run once that is recorded."""

    async def none_left() -> bool:
        return not list(_keys_left(deployment))

    with suppress(NotWithin):
        await deployment.until(none_left, what="every key is gone", seconds=LETTING_GO_SECONDS)
    return list(_keys_left(deployment))


def _keys_left(deployment: Deployment) -> Iterator[str]:
    """What is left of runs that are over for good; one that failed may be resumed."""
    prefix = "rollforward:run:{"
    done = {run_id for run_id, run in deployment.over.items() if run.status.is_over}
    with deployment.redis.client() as client:
        for key in sorted(key.decode() for key in client.keys(f"{prefix}*")):
            run_id, _, name = key.removeprefix(prefix).partition("}:")
            if run_id in done and name != "tombstone":
                yield f"the ledger has {key} still"
