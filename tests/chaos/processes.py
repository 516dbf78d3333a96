"""Process chaos: real Redis, workers, orchestrators and stores under random faults, and a checker that judges them.

python -m tests.chaos.processes [--kills 200] [--seed 1]
"""

import argparse
import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.process.campaign import Campaign
from tests.chaos.process.schedule import drawn
from tests.chaos.process.size import DEFAULT
from tests.chaos.process.table import table, too_late
from tests.chaos.process.verdict import Verdict
from tests.service.postgres import PostgresServer

KILLS_OF_ONE_DEPLOYMENT = 100
STORES = ("sqlite", "postgresql")


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parsed(arguments)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    return _campaigns(asked.kills, asked.seed)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _campaigns(kills: int, seed: int) -> int:
    campaigns: list[Campaign] = []
    is_whole = True
    try:
        for number, count in enumerate(_parts(kills)):
            store = STORES[(seed + number) % len(STORES)]
            waves = drawn(count, seed * 1000 + number, has_postgres=store == "postgresql", at_once=DEFAULT.at_once)
            campaigns.append(Campaign(waves, size=DEFAULT, seed=seed * 1000 + number))
            _play(campaigns[-1], store)
    except KeyboardInterrupt:
        is_whole = False
    verdict = sum((campaign.verdict for campaign in campaigns), Verdict())
    faults = [fault for campaign in campaigns for fault in campaign.faults]
    late = list(too_late(faults))
    for line in [*verdict.wrong, *late]:
        say(line)
    say(f"kills={len(faults)}: " + " ".join(f"{k}={n}" for k, n in sorted(Counter(f.kind for f in faults).items())))
    say(f"runs={verdict.runs} instances={verdict.instances} executions={verdict.executions} wasted={verdict.wasted}")
    say(f"lost={verdict.lost} duplicated={verdict.duplicated} hung={verdict.hung} violations={len(verdict.wrong)}")
    for line in table(faults, lease_seconds=DEFAULT.lease_seconds):
        say(line)
    if not is_whole:
        say("broken off: the deployment that was under way is not judged")
    return 0 if is_whole and verdict.is_good and not late else 1


def _play(campaign: Campaign, store: str) -> None:
    with ExitStack() as resources:
        folder = Path(resources.enter_context(TemporaryDirectory(prefix="chaos-")))
        postgres = None
        if store == "postgresql":
            postgres = PostgresServer()
            resources.callback(postgres.remove)
            postgres.start()
        asyncio.run(campaign.play(folder, postgres))


def _parts(kills: int) -> list[int]:
    """How many faults each deployment has."""
    count = max(1, round(kills / KILLS_OF_ONE_DEPLOYMENT))
    return [kills // count + (number < kills % count) for number in range(count)]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.processes", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many faults")
    parser.add_argument("--seed", type=int, default=1, help="which ones, and when")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
