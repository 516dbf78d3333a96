"""Process chaos: real Redis, workers, orchestrators and stores under random faults, and a checker that judges them.

python -m tests.chaos.processes [--kills 200] [--seed 1]      faults by a schedule, and how soon each was made good
python -m tests.chaos.processes --skew [--faketime FILE]      the same, while clocks are off, and Redis' steps
python -m tests.chaos.processes --duplicates                  10,000 instances, 5 % of whose messages come twice
python -m tests.chaos.processes --poison                      1,000 instances that kill their process, among sound ones
"""

import argparse
import asyncio
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from tests.chaos.process import duplicates, poisoned
from tests.chaos.process.campaign import Campaign
from tests.chaos.process.fault import OF_REDIS, OF_REDIS_CLOCK
from tests.chaos.process.schedule import drawn
from tests.chaos.process.size import DEFAULT
from tests.chaos.process.skew import FaketimeMissing, faketime, skewed
from tests.chaos.process.summary import summary
from tests.chaos.speech import say
from tests.service.postgres import PostgresServer

KILLS_OF_ONE_DEPLOYMENT = 100
STORES = ("sqlite", "postgresql")


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parsed(arguments)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if asked.duplicates:
        return _duplicates(asked)
    return _poison(asked) if asked.poison else _campaigns(asked)


def _campaigns(asked: argparse.Namespace) -> int:
    try:
        library = faketime(asked.faketime) if asked.skew else None
    except FaketimeMissing as error:
        sys.stderr.write(f"{error}\n")
        return 2
    campaigns: list[Campaign] = []
    is_whole = True
    try:
        for number, count in enumerate(_parts(asked.kills)):
            store = asked.store or STORES[(asked.seed + number) % len(STORES)]
            campaigns.append(_campaign(count, asked.seed * 1000 + number, store, library))
            _play(campaigns[-1], store)
    except KeyboardInterrupt:
        is_whole = False
    found = summary(campaigns, is_whole=is_whole)
    for line in found.lines:
        say(line)
    return 0 if found.is_good else 1


def _campaign(count: int, seed: int, store: str, library: Path | None) -> Campaign:
    has_postgres = store == "postgresql"
    of_redis = OF_REDIS if library is None else OF_REDIS_CLOCK
    waves = drawn(count, seed, has_postgres=has_postgres, at_once=DEFAULT.at_once, of_redis=of_redis)
    # SQLite's clock is that of whoever asks it.
    added = None if library is None else skewed(DEFAULT, library, orchestrators=has_postgres)
    return Campaign(waves, size=DEFAULT, seed=seed, added=added)


def _play(campaign: Campaign, store: str) -> None:
    folder = Path(mkdtemp(prefix="chaos-"))
    with ExitStack() as resources:
        postgres = None
        if store == "postgresql":
            postgres = PostgresServer()
            resources.callback(postgres.remove)
            postgres.start()
        try:
            asyncio.run(campaign.play(folder, postgres))
        finally:
            if campaign.verdict.is_good:
                shutil.rmtree(folder)
            else:
                sys.stderr.write(f"something is wrong: logs and history are in {folder}\n")


def _duplicates(asked: argparse.Namespace) -> int:
    size = replace(duplicates.SIZE, instances=asked.instances or duplicates.SIZE.instances)
    with _folder() as folder:
        verdict, twice = asyncio.run(duplicates.play(folder, size=size, seed=asked.seed))
    for what in verdict.wrong:
        say(what)
    say(f"instances={verdict.instances} duplicated_messages={twice} executions={verdict.executions}")
    say(f"extra={verdict.wasted} lost={verdict.lost} duplicated={verdict.duplicated} hung={verdict.hung}")
    return 0 if verdict.is_good and twice else 1


def _poison(asked: argparse.Namespace) -> int:
    size = replace(poisoned.SIZE, instances=asked.instances or poisoned.SIZE.instances)
    with _folder() as folder:
        found = asyncio.run(poisoned.play(folder, size=size, seed=asked.seed))
    for what in found.wrong:
        say(what)
    say(f"poison={found.poison} deaths={found.deaths} sound={found.sound} charged={found.charged}")
    return 1 if found.wrong else 0


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def _parts(kills: int) -> list[int]:
    """How many faults each deployment has."""
    count = max(1, round(kills / KILLS_OF_ONE_DEPLOYMENT))
    return [kills // count + (number < kills % count) for number in range(count)]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.processes", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="how many faults")
    parser.add_argument("--seed", type=int, default=1, help="which ones, and when")
    parser.add_argument("--store", choices=STORES, help="by default each in turn")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--skew", action="store_true")
    modes.add_argument("--duplicates", action="store_true")
    modes.add_argument("--poison", action="store_true")
    parser.add_argument("--faketime", type=Path, help="the file of libfaketime, where it is not installed")
    parser.add_argument("--instances", type=int, help="how many, with --duplicates or --poison")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
