"""The crash-point sweep: every row of the crash matrix over every store, at the first, a middle and the last instance.

python -m tests.chaos.crashpoints [--store sqlite|postgresql|redis] [--row W3]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory

from tests.chaos.crash.case import judged
from tests.chaos.crash.row import ELSEWHERE, ROWS, STORES, Row
from tests.service.postgres import PostgresServer


class Stores:
    """The URL of an empty store for every case; PostgreSQL is started when it is first needed."""

    def __init__(self, resources: ExitStack) -> None:
        self._resources = resources
        self._postgres: PostgresServer | None = None

    def url(self, store: str, folder: Path) -> str | None:
        """Where the checkpoints of a case are; None means its own Redis."""
        if store == "sqlite":
            return f"sqlite:///{folder}/state.db"
        return self._postgres_url() if store == "postgresql" else None

    def _postgres_url(self) -> str:
        if self._postgres is None:
            self._postgres = PostgresServer()
            self._resources.callback(self._postgres.remove)
            self._postgres.start()
        return self._postgres.create_database()


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parsed(arguments)
    failures = cases = 0
    with ExitStack() as resources:
        stores = Stores(resources)
        for row, store, place in _cases(asked.store, asked.row):
            failures += not _is_well(row, store, place, stores)
            cases += 1
    for name, why in ELSEWHERE.items():
        say(f"{name} has no line of its own: {why}")
    say(f"rows={cases} failures={failures}")
    return 1 if failures or not cases else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crashpoints")
    parser.add_argument("--store", choices=STORES)
    parser.add_argument("--row", choices=[row.name for row in ROWS])
    return parser.parse_args(arguments)


def _cases(store: str | None, name: str | None) -> Iterator[tuple[Row, str, str]]:
    for row in ROWS:
        for each in row.stores:
            if name in (None, row.name) and store in (None, each):
                yield from ((row, each, place) for place in row.places)


def _is_well(row: Row, store: str, place: str, stores: Stores) -> bool:
    with TemporaryDirectory() as folder:
        try:
            verdict = judged(row, place, Path(folder), url=stores.url(store, Path(folder)))
        except (AssertionError, RuntimeError, SubprocessError) as error:
            what, _, why = str(error).partition("\n")
            say(f"{row.name} {store} {place} FAILED {what}")
            sys.stderr.write(why)
            return False
    say(f"{row.name} {store} {place} {verdict}")
    return not verdict.faults


if __name__ == "__main__":
    sys.exit(main())
