"""Simulate the recording protocol from seeds: `python -m tests.chaos.simulate --seeds 2000 [--seed N]`."""

import argparse
import sys
from collections import Counter

from tests.chaos.sim.simulation import simulate
from tests.chaos.speech import say


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one only, with its history")
    told = parser.parse_args()
    seeds = range(told.first, told.first + told.seeds) if told.seed is None else range(told.seed, told.seed + 1)
    steps, violations, hung = 0, 0, 0
    faults: Counter[str] = Counter()
    for seed in seeds:
        outcome = simulate(seed)
        steps += outcome.steps
        violations += bool(outcome.history.violations)
        hung += outcome.is_hung
        faults += outcome.faults
        if told.seed is not None:
            say("\n".join(str(event) for event in outcome.events))
        if not outcome.is_good:
            say(outcome.told())
    say(f"seeds={len(seeds)} steps={steps} violations={violations} hung={hung}")
    say(" ".join(f"{kind}={count}" for kind, count in sorted(faults.items())))
    return int(violations + hung > 0)


if __name__ == "__main__":
    sys.exit(main())
