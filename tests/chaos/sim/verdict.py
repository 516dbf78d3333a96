"""What is judged when a simulation has ended: the record against a serial run, and against what befell it."""

import json
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.verify import verify
from orchestrator.report import Outcome
from tests.chaos.sim.subject import FAN_OUT, value_of

if TYPE_CHECKING:
    from tests.chaos.sim.world import World


async def judge(world: "World") -> None:
    """Add to the history what does not hold at the end."""
    run = world.kept(world.run_id).run
    has_succeeded = run.status.value == "succeeded"
    if has_succeeded:
        await _judge_record(world)
        _judge_result(world)
    elif world.scenario.cancel_at is None:
        _blame(world, "every run ends", f"it is {run.status.value}")
    _judge_executions(world)
    _judge_keys(world)


async def _judge_record(world: "World") -> None:
    told = await verify(world.store, world.run_id, has_succeeded=True)
    if not told.ok:
        _blame(world, "every index is recorded once", str(told.to_json()))


def _judge_result(world: "World") -> None:
    kept, scenario = world.kept(world.run_id), world.scenario
    outer = sorted((row for row in kept.fan_outs.values() if not row.key.lineage), key=lambda row: row.key.visit)
    if [row.key.visit for row in outer] != list(range(scenario.visits)):
        _blame(world, "the result is a serial run's", f"visits {[row.key.visit for row in outer]}")
    outs: list[int] = []
    for row in outer:
        reports = [slot.report for slot in kept.slots.latest(row.id)]
        for report in reports:
            _judge_report(world, report)
        outs += [value_of(one.slot.index) for one in reports if one.outcome is Outcome.SUCCEEDED]
    last = [step for step in kept.ordered_steps() if not step.namespace][-1]
    state = json.loads(last.state)
    if state["outs"] != outs or state["turns"] != scenario.visits:
        _blame(world, "the result is a serial run's", f"{state}, not {outs}")


def _judge_report(world: "World", report: Any) -> None:
    scenario, index = world.scenario, report.slot.index
    is_failing = scenario.shape != "fail_fast" and index in scenario.failing
    match report.outcome:
        case Outcome.SUCCEEDED:
            is_right = not is_failing and json.loads(report.partial) == {"out": value_of(index)}
            is_right = is_right and index != scenario.poison
        case Outcome.FAILED:
            is_right = is_failing and index != scenario.poison
        case _:
            is_right = report.outcome is Outcome.LOST
    if not is_right:
        _blame(world, "the result is a serial run's", f"{FAN_OUT}[{index}] {report.outcome} {report.partial}")


def _judge_executions(world: "World") -> None:
    rows = world.kept(world.run_id).fan_outs.values()
    expected = sum(row.instance_count for row in rows if world.is_on_workers(row.id))
    # Where a run fails, all that ran with the failed instance is run again.
    is_resumed = world.scenario.shape == "fail_fast"
    again = world.scenario.count * len(world.scenario.failing) if is_resumed else 0
    allowed = expected + world.fate.extra + again
    if world.witness.executions > allowed and not (is_resumed and world.fate.extra):
        _blame(world, "executions have a reason", f"{world.witness.executions} of {allowed}")


def _judge_keys(world: "World") -> None:
    # What stays behind where the ledger or its owner was away at that very moment costs memory only. Once it was
    # forgotten, nobody brings it back but a rollback.
    is_excused = any("ledger" in kind or "server" in kind or "step" in kind for kind in world.faults)
    is_excused = (is_excused and not world.witness.is_forgotten) or bool({"wipe", "rollback"} & set(world.faults))
    if world.run_id in world.ledger._runs and not is_excused:
        _blame(world, "no keys are left", "the run is over and has entries")


def _blame(world: "World", invariant: str, told: str) -> None:
    world.witness.blame(invariant, world.run_id, told)
