"""Shows that every expectation of every fixture is really held: `python -m tests.conformance.mutate`.

Each expected leaf of each case is changed, one at a time, and the case must fail then.
"""

import argparse
import asyncio
import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.conformance.document import Case, cases
from tests.conformance.equivalent import reason_of
from tests.conformance.judging import judge
from tests.conformance.location import folders
from tests.conformance.running import Player
from tests.conformance.scene import Scene, scene

EXPECTING = (
    "expected",
    "expected_error",
    "expected_compile_error",
    "expected_compile_warning",
    "expected_chain_ambiguity_error",
    "first_run_expected_error",
    "saved_record_assertions",
    "every_save_assertions",
    "invariants",
)
"""The keys of a case whose leaves are expectations; `resume` and `invocations` have more of them inside."""

CASE_SECONDS = 60
Place = tuple[str | int, ...]


def leaves(case: Case) -> Iterator[Place]:
    """The places of every expected leaf."""
    for key in EXPECTING:
        if key in case.values:
            yield from _leaves(case.values[key], (key,))
    inside: list[Place] = [("resume",), *(("invocations", index) for index in range(_count(case)))]
    for at in inside:
        inner = _at(case.values, at) if at[0] in case.values else {}
        for name in EXPECTING:
            if name in inner:
                yield from _leaves(inner[name], (*at, name))


def _count(case: Case) -> int:
    invocations = case.values.get("invocations", ())
    return len(invocations) if isinstance(invocations, list) else 0


def _leaves(value: Any, place: Place) -> Iterator[Place]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, (*place, name))
    elif isinstance(value, list) and value:
        if len(value) > 1 and value != value[::-1]:
            yield (*place, "reversed")
        for index, part in enumerate(value):
            yield from _leaves(part, (*place, index))
    else:
        yield place


def changed(case: Case, place: Place) -> Case:
    """The case with another value there."""
    values = copy.deepcopy(dict(case.values))
    if place[-1] == "reversed":
        _at(values, place[:-1]).reverse()
    else:
        _at(values, place[:-1])[place[-1]] = other(_at(values, place))
    return Case(case.address, values)


def other(value: Any) -> Any:
    """A value of the same kind that is not this one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1000
        case str():
            return f"{value} and not that"
        case None:
            return "something"
        case list():
            return ["something"]
        case _:
            return {"something": "else"}


def _at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


async def is_caught(case: Case, stage: Scene) -> bool:
    """Whether the case fails."""
    try:
        async with AsyncExitStack() as stack, asyncio.timeout(CASE_SECONDS):
            judge(await Player(case, stack, scene=stage).play())
    except Exception:  # noqa: BLE001 - whatever fails the case would fail its test
        return True
    return False


async def mutate(fixtures: Sequence[Path], only: str, stage: Scene) -> int:
    """Change every leaf of every case; the number of those that nobody noticed and nobody explained."""
    count, caught, unexplained = 0, 0, 0
    for case in cases(fixtures):
        if only not in case.address:
            continue
        if await is_caught(case, stage):
            sys.stdout.write(f"FAILS UNCHANGED {case.address}\n")
            unexplained += 1
        for place in leaves(case):
            count += 1
            if await is_caught(changed(case, place), stage):
                caught += 1
                continue
            reason = reason_of(case.address, place)
            unexplained += reason is None
            shown = ".".join(map(str, place))
            sys.stdout.write(f"{'NOT CAUGHT' if reason is None else 'equivalent'} {case.address} {shown}: {reason}\n")
            sys.stdout.flush()
    sys.stdout.write(f"leaves={count} caught={caught}\n")
    return unexplained


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fixtures", type=Path, help="the folder with the conformance fixtures, instead of ours and the shared ones"
    )
    parser.add_argument("--only", default="", help="part of the addresses of the cases to change")
    told = parser.parse_args()
    with scene() as stage:
        return min(asyncio.run(mutate(folders(told.fixtures), told.only, stage)), 1)


if __name__ == "__main__":
    sys.exit(main())
