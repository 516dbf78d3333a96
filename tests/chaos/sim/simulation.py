"""From a seed to its outcome."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from tests.chaos.sim.clock import NothingLeft, run_virtually
from tests.chaos.sim.history import Event, History, Violation
from tests.chaos.sim.scenario import Scenario
from tests.chaos.sim.verdict import judge
from tests.chaos.sim.world import World, on_virtual_time


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to."""

    seed: int
    steps: int
    is_hung: bool
    faults: Counter[str]
    history: History

    @property
    def is_good(self) -> bool:
        return not (self.is_hung or self.history.violations)

    def told(self) -> str:
        """The first violation, with the shortest history that shows it."""
        wrong = self.history.violations or [Violation("done within a bound", "run", "it hangs")]
        first = wrong[0]
        lines = [f"seed={self.seed} {first.invariant}: {first.subject}: {first.told}"]
        return "\n".join([*lines, *(str(event) for event in self.history.about(first.subject))])

    @property
    def events(self) -> list[Event]:
        return self.history.events


def simulate(seed: int) -> Outcome:
    """Play one seed to its end."""
    logging.disable(logging.CRITICAL)
    try:
        outcome: Outcome = run_virtually(_play(Scenario.of(seed)))
    finally:
        logging.disable(logging.NOTSET)
    return outcome


async def _play(scenario: Scenario) -> Outcome:
    with on_virtual_time(asyncio.get_running_loop()):
        world = World(scenario)
        try:
            is_over = await world.live()
        except NothingLeft:
            is_over = False
        if is_over:
            await judge(world)
        history, steps = world.witness.history, world.steps
        shown = History(list(history.events), list(history.violations))
        await world.end()
    return Outcome(scenario.seed, steps, not is_over, world.faults, shown)
