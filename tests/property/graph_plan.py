"""Random small graphs as values, from which a graph can be built again."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from hypothesis import strategies as st

MOST_ITEMS = 3
MOST_STEPS = 3


@dataclass(frozen=True)
class Work:
    """A function node; with `retried` its first attempt fails, with `isolated` every one does.

    With `durable` an instance that runs again goes on after it.
    """

    retried: bool = False
    isolated: bool = False
    durable: bool = False


@dataclass(frozen=True)
class Loop:
    """A function node that is gone through several times, with a subgraph before it where there is one."""

    turns: int
    level: "Level | None" = None


@dataclass(frozen=True)
class Inside:
    """A subgraph."""

    level: "Level"


@dataclass(frozen=True)
class Wide:
    """A fan-out; `failing` names the instance that fails.

    It fails in every invocation where its failure is a result: under `collect`, or inside an instance of a fan-out
    that collects (`is_collected`, see `settled`). Else the run fails with it, and the next invocation goes on.
    """

    items: int
    level: "Level"
    policy: Literal["collect", "fail_fast"]
    failing: int | None = None
    retried: bool = False
    on_orchestrator: bool = False
    is_collected: bool = False

    @property
    def fails_for_good(self) -> bool:
        return self.policy == "collect" or self.is_collected

    @property
    def raises(self) -> bool:
        return self.failing is not None and self.failing < self.items and self.policy == "fail_fast"


@dataclass(frozen=True)
class Parallel:
    """Parallel branches."""

    levels: tuple["Level", ...]


Step = Work | Loop | Inside | Wide | Parallel


@dataclass(frozen=True)
class Level:
    """A graph: its steps one after the other."""

    steps: tuple[Step, ...]


KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Work, Loop, Inside, Wide, Parallel, Level)}


def to_json(level: Level) -> str:
    """A plan as text, for another process."""
    return json.dumps(level, default=lambda part: {"kind": type(part).__name__, **vars(part)})


def from_json(text: str) -> Level:
    """The plan of a text."""

    def part(told: dict[str, Any]) -> Any:
        kind = KINDS[told.pop("kind")]
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})

    level: Level = json.loads(text, object_hook=part)
    return level


def levels(depth: int) -> st.SearchStrategy[Level]:
    """Graphs that nest at most so deep."""
    kinds: list[st.SearchStrategy[Step]] = [
        st.builds(Work, retried=st.booleans(), isolated=st.booleans(), durable=st.booleans()),
        st.builds(Loop, turns=st.integers(2, 3)),
    ]
    if depth > 0:
        inner = levels(depth - 1)
        kinds += [
            st.builds(Inside, inner),
            st.builds(Loop, turns=st.just(2), level=inner),
            st.builds(Parallel, st.lists(inner, min_size=1, max_size=2).map(tuple)),
            *[_wide(inner)] * 3,
        ]
    return st.builds(Level, st.lists(st.one_of(kinds), min_size=1, max_size=MOST_STEPS).map(tuple))


def _wide(inner: st.SearchStrategy[Level]) -> st.SearchStrategy[Step]:
    return st.builds(
        Wide,
        items=st.integers(1, MOST_ITEMS),
        level=inner,
        policy=st.sampled_from(["collect", "fail_fast"]),
        failing=st.none() | st.integers(0, MOST_ITEMS - 1),
        retried=st.booleans(),
        on_orchestrator=st.booleans(),
    )


def settled(level: Level, *, is_collected: bool = False) -> Level:
    """The same graph, in which every fan-out knows whether one around it collects its failure."""

    def around(wide: Wide) -> Wide:
        inner = settled(wide.level, is_collected=is_collected or wide.policy == "collect")
        return replace(wide, level=inner, is_collected=is_collected)

    return _changed(level, around, lambda inner: settled(inner, is_collected=is_collected))


def mended(level: Level) -> Level:
    """The graph in which no failure ends the run: what a resumed run of the other comes to."""

    def without(wide: Wide) -> Wide:
        failing = wide.failing if wide.fails_for_good else None
        return replace(wide, level=mended(wide.level), failing=failing)

    return _changed(level, without, mended)


def fan_outs(level: Level) -> Iterator[Wide]:
    """All fan-outs of a graph, also those that are nested."""
    for step in level.steps:
        if isinstance(step, Wide):
            yield step
        inner = step.levels if isinstance(step, Parallel) else (getattr(step, "level", None),)
        for one in inner:
            yield from () if one is None else fan_outs(one)


def tries_again(level: Level) -> bool:
    """Whether a failure is tried again by what is around it: fan-outs in there are entered anew, in each delivery."""
    return any(outer.retried and any(inner.raises for inner in fan_outs(outer.level)) for outer in fan_outs(level))


def _changed(level: Level, wide: Callable[[Wide], Wide], inner: Callable[[Level], Level]) -> Level:
    def changed(step: Step) -> Step:
        match step:
            case Wide():
                return wide(step)
            case Inside():
                return Inside(inner(step.level))
            case Loop(level=Level()):
                assert step.level is not None
                return Loop(step.turns, inner(step.level))
            case Parallel():
                return Parallel(tuple(inner(level) for level in step.levels))
            case _:
                return step

    return Level(tuple(changed(step) for step in level.steps))
