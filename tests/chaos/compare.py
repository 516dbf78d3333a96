"""Compare the ledger in memory, verb by verb, with the one in Redis: `python -m tests.chaos.compare --seeds 200`."""

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.sim.replay import Replay
from tests.chaos.sim.simulation import played
from tests.chaos.speech import say
from tests.service.redis import RedisServer


def compare(url: str, seeds: Iterable[int]) -> tuple[int, list[str]]:
    """How many verbs there were, and for each seed the first that Redis has answered otherwise."""
    verbs, told = 0, []
    replay = Replay(url)
    with asyncio.Runner() as runner:
        for seed in seeds:
            acts = played(seed, is_script_kept=True)[1]
            replay.begin()
            differences = runner.run(replay.play(acts))
            verbs += len(acts)
            if differences:
                told.append(f"seed={seed} {len(differences)} differences, the first: {differences[0]}")
        runner.run(replay.close())
    return verbs, told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.compare", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds, from 0")
    parser.add_argument("--seed", type=int, help="this one only")
    told = parser.parse_args()
    seeds = range(told.seeds) if told.seed is None else range(told.seed, told.seed + 1)
    with TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), unix_socket=True).start()
        try:
            verbs, differences = compare(server.url, seeds)
        finally:
            server.stop()
    for difference in differences:
        say(difference)
    say(f"seeds={len(seeds)} verbs={verbs} differences={len(differences)}")
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
