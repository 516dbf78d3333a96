"""From a seed to its outcome."""

import logging
from collections import Counter
from dataclasses import dataclass

from tests.chaos.sim.clock import NothingLeft, run_virtually
from tests.chaos.sim.history import Event, History, Violation
from tests.chaos.sim.scenario import Scenario
from tests.chaos.sim.script import Act
from tests.chaos.sim.verdict import judge
from tests.chaos.sim.world import World


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
    return played(seed)[0]


def played(seed: int, *, is_script_kept: bool = False) -> tuple[Outcome, list[Act]]:
    """Play one seed to its end; the acts on its ledger come with it where they are asked for."""
    logging.disable(logging.CRITICAL)
    worlds: list[World] = []
    playing = _play(Scenario.of(seed), worlds, is_script_kept=is_script_kept)
    try:
        is_over: bool = run_virtually(playing, afterwards=lambda: worlds[0].end())
    except NothingLeft:
        is_over = False
    finally:
        logging.disable(logging.NOTSET)
    [world] = worlds
    return Outcome(seed, world.steps, not is_over, world.faults, world.history), world.script.acts


async def _play(scenario: Scenario, worlds: list[World], *, is_script_kept: bool) -> bool:
    world = World(scenario, is_script_kept=is_script_kept)
    worlds.append(world)
    is_over = await world.live()
    if is_over:
        await judge(world)
    world.close()
    return is_over
