"""The crash-point sweep: every row of the crash matrix over every store, at the first, a middle and the last instance.

python -m tests.chaos.crashpoints [--store sqlite|postgresql|redis] [--row W3] [--position first] [--jobs 2]
"""

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from tests.chaos.crash.case import judged
from tests.chaos.crash.row import ELSEWHERE, ROWS, STORES, Row
from tests.chaos.speech import say
from tests.service.postgres import PostgresServer
from tests.service.worker import REPOSITORY

Case = tuple[Row, str, str]


class Bench:
    """Where cases are run one after the other; PostgreSQL is started when it is first needed."""

    def __init__(self, resources: ExitStack) -> None:
        self._resources = resources
        self._postgres: PostgresServer | None = None

    def is_well(self, row: Row, store: str, place: str) -> bool:
        """Run a case, and say how it went."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            postgres = self._server() if store == "postgresql" else None
            try:
                verdict = judged(row, place, Path(folder), kind=store, postgres=postgres)
            except Exception as error:  # noqa: BLE001 - whatever ends a case is its failure, and not that of the next
                what, _, why = str(error).partition("\n")
                say(f"{row.name} {store} {place} FAILED {type(error).__name__}: {what}")
                sys.stderr.write(f"{row.name} {store} {place}\n{why}\n")
                return False
        say(f"{row.name} {store} {place} {verdict}")
        return not verdict.faults

    def _server(self) -> PostgresServer:
        if self._postgres is None:
            self._postgres = PostgresServer()
            self._resources.callback(self._postgres.remove)
            self._postgres.start()
        return self._postgres


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parsed(arguments)
    cases = [case for case in _cases(asked.store, asked.row) if asked.position in (None, case[2])]
    if asked.part is not None:
        with ExitStack() as resources:
            bench = Bench(resources)
            return sum(not bench.is_well(*case) for case in islice(cases, asked.part, None, asked.jobs)) > 0
    counts = _in_parts(list(sys.argv[1:] if arguments is None else arguments), asked.jobs)
    for name, why in ELSEWHERE.items():
        say(f"{name} has no line of its own: {why}")
    failures = len(cases) - counts["ok"]
    say(f"rows={len(cases)} failures={failures}")
    return 1 if failures or not cases else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crashpoints")
    parser.add_argument("--store", choices=STORES)
    parser.add_argument("--row", choices=list(dict.fromkeys(row.name for row in ROWS)))
    parser.add_argument("--position", choices=list(dict.fromkeys(place for row in ROWS for place in row.places)))
    parser.add_argument("--jobs", type=int, default=1, help="cases side by side")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _cases(store: str | None, name: str | None) -> Iterator[Case]:
    for row in ROWS:
        for each in row.stores:
            if name in (None, row.name) and store in (None, each):
                yield from ((row, each, place) for place in row.places)


def _in_parts(arguments: list[str], jobs: int) -> Counter[str]:
    """Run every `jobs`-th case in a process of its own, and count how the lines end that they say."""
    counts: Counter[str] = Counter()
    readers = [Thread(target=_read, args=([*arguments, "--part", str(part)], counts)) for part in range(jobs)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return counts


def _read(arguments: list[str], counts: Counter[str]) -> None:
    command = [sys.executable, "-m", "tests.chaos.crashpoints", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as part:
        assert part.stdout is not None
        for line in part.stdout:
            say(line.rstrip())
            counts[line.rstrip().rpartition(" ")[2]] += 1


if __name__ == "__main__":
    sys.exit(main())
