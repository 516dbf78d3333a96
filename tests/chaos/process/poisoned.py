"""Many instances that kill whatever process runs them, among sound ones on the same workers."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.row import Loss, RunStatus
from orchestrator.errors import InstanceLost
from tests.chaos.process.deployment import Deployment
from tests.chaos.process.poison import SOUND_EVERY, is_sound
from tests.chaos.process.size import Size

GRAPH = "tests.chaos.process.poison"
MAX_DELIVERIES = 3
SIZE = Size(
    workers=4,
    processes=4,
    orchestrators=2,
    instances=1000 * SOUND_EVERY // (SOUND_EVERY - 1),
    concurrency=24,
    seconds=1.0,
)
"""A thousand of its instances are poison."""
END_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Poisoned:
    """What came of it; `wrong` says what was not as promised."""

    poison: int
    sound: int
    deaths: int
    charged: int
    wrong: tuple[str, ...]


async def play(folder: Path, *, size: Size, seed: int) -> Poisoned:
    """Let them run to the end of their run."""
    deployment = Deployment(folder, size=size, seed=seed, postgres=None, duplicates=0.0, graph=GRAPH)
    try:
        await deployment.start()
        run_id = await deployment.submit(size.instances)
        await deployment.until_over(END_SECONDS)
        return await _judged(deployment, run_id, size.instances)
    finally:
        await deployment.close()


async def _judged(deployment: Deployment, run_id: str, instances: int) -> Poisoned:
    run = await deployment.store.find(run_id)
    if run.status is not RunStatus.SUCCEEDED:
        return Poisoned(0, 0, 0, 0, (f"the run is {run.status.value}: {run.error}",))
    (row,) = await deployment.store.fan_outs(run_id)
    losses = await deployment.store.losses(run_id, row.id)
    state = json.loads((await deployment.store.steps(run_id))[-1].state)
    executions = Counter({index: len(found) for index, found in deployment.history.read().of(run_id).items()})
    sound = [number for number in range(instances) if is_sound(number)]
    return Poisoned(
        poison=instances - len(sound),
        sound=len(sound),
        deaths=sum(count for index, count in executions.items() if not is_sound(index)),
        charged=sum(loss.is_charged for loss in losses if is_sound(loss.slot.index)),
        wrong=(*wrong_poison(instances, executions, state), *wrong_sound(sound, executions, state, losses)),
    )


def wrong_poison(instances: int, executions: Counter[int], state: dict[str, Any]) -> Iterator[str]:
    poison = [number for number in range(instances) if not is_sound(number)]
    for index in poison:
        if executions[index] != MAX_DELIVERIES:
            yield f"{index} kills its process, and was executed {executions[index]} times"
    lost = [int(error["fan_out_index"]) for error in state["errors"] if error["category"] == InstanceLost.category]
    if lost != poison:
        yield f"lost are {lost}"


def wrong_sound(sound: list[int], executions: Counter[int], state: dict[str, Any], losses: list[Loss]) -> Iterator[str]:
    for index in sound:
        if executions[index] != 1:
            yield f"{index} is sound, and was executed {executions[index]} times"
    for loss in losses:
        if is_sound(loss.slot.index):
            yield f"{loss.slot.index} is sound, and has lost its worker: {loss}"
    if state["squares"] != [number**2 for number in sound]:
        yield f"the squares are {state['squares']}"
