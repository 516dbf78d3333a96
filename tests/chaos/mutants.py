"""Broken versions of the protocol, each of which the simulation must catch: `python -m tests.chaos.mutants`."""

import argparse
import sys

from tests.chaos.sim.broken import BROKEN, EQUIVALENT, Broken
from tests.chaos.sim.scenario import Scenario
from tests.chaos.sim.simulation import simulate
from tests.chaos.speech import say


def caught(broken: Broken, seeds: int) -> str | None:
    """The seed and the invariant that caught a broken version; None where none did."""
    for seed in (seed for seed in range(seeds) if broken.shows(Scenario.of(seed))):
        with broken.version():
            outcome = simulate(seed)
        if not outcome.is_good:
            wrong = outcome.history.violations
            return f"seed {seed}, {wrong[0].invariant if wrong else 'done within a bound'}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4000, help="how many seeds each is given at most")
    told = parser.parse_args()
    count = 0
    for name, broken in BROKEN.items():
        by = caught(broken, told.seeds)
        count += by is not None
        say(f"{name}: " + ("NOT CAUGHT" if by is None else f"caught ({by})"))
    for name, reason in EQUIVALENT.items():
        say(f"{name}: equivalent: {reason}")
    say(f"mutants={len(BROKEN) + len(EQUIVALENT)} caught={count}")
    return int(count < len(BROKEN))


if __name__ == "__main__":
    sys.exit(main())
