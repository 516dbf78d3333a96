"""Which faults come together, and in which order, from a seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.process.fault import OF_REDIS

TOGETHER = (("child",), ("worker", "frozen"), ("message",), ("orchestrator",), ("redis",))
"""Measured kinds that do not disturb each other: a message that reaches a worker just frozen is lost."""
MEASURED = tuple(kind for kinds in TOGETHER for kind in kinds)
SHARE = 0.15
"""The part of all faults that each measured kind has."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Faults that come together; `is_measured` where none of them disturbs how another is noticed."""

    kinds: tuple[str, ...]
    is_measured: bool


def drawn(kills: int, seed: int, *, has_postgres: bool, at_once: int, of_redis: Sequence[str] = OF_REDIS) -> list[Wave]:
    """The waves of so many faults; `of_redis` are the kinds that storms have of Redis."""
    chooser = random.Random(seed)
    each = max(1, int(kills * SHARE)) if kills >= len(MEASURED) else 0
    measured = (wave for kinds in TOGETHER for wave in _waves(kinds, each, 1 if kinds == ("redis",) else at_once))
    waves = [Wave(kinds, is_measured=True) for kinds in measured]
    beside = kills - each * len(MEASURED)
    waves += [Wave(kinds, is_measured=False) for kinds in _storms(beside, chooser, has_postgres, of_redis)]
    chooser.shuffle(waves)
    return waves


def _waves(kinds: Sequence[str], each: int, at_once: int) -> Iterator[tuple[str, ...]]:
    for first in range(0, each, at_once):
        yield tuple(kind for kind in kinds for _ in range(first, min(first + at_once, each)))


def _storms(
    count: int, chooser: random.Random, has_postgres: bool, of_redis: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Up to three at once, of which one is Redis's."""
    redis_kinds = _shuffled(of_redis, chooser)
    others = _shuffled(
        ("split_brain", "cut_off", "replies", "child", "frozen", *(["postgres"] if has_postgres else [])), chooser
    )
    while count > 0:
        beside = [next(others) for _ in range(chooser.randrange(3))]
        storm = tuple(dict.fromkeys((next(redis_kinds), *beside)))[:count]
        count -= len(storm)
        yield storm


def _shuffled(kinds: Sequence[str], chooser: random.Random) -> Iterator[str]:
    """Every kind equally often, for ever."""
    while True:
        yield from chooser.sample(kinds, len(kinds))
