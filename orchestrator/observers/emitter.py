"""Where events go from the code that runs a node."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from orchestrator.observers.event import Event, Phase

Path = tuple[str, ...]
"""The namespace of the graph that an event comes from, as fan-out keys have it: with the names of branches."""


class Home:
    """The thread that it is made in, and its event loop: what another thread tells is handed over to that."""

    def __init__(self) -> None:
        self._thread = get_ident()
        self._loop = _running_loop()

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is another thread."""
        return self._loop is not None and get_ident() != self._thread

    @property
    def is_here(self) -> bool:
        """Whether this runs in that loop: a thread may have several, one after the other."""
        return self._loop is not None and _running_loop() is self._loop

    def call(self, act: Callable[..., None], *arguments: Any, **named: Any) -> None:
        """Call `act` there, soon; before whatever this thread gives to that loop after it."""
        # Whoever would be told is gone with a loop that is closed.
        with suppress(RuntimeError):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(partial(act, *arguments, **named))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Emitter(Protocol):
    """Takes the events of one source in the order in which they happen, from any thread."""

    @property
    def wanted(self) -> frozenset[Phase]:
        """What anybody is told of."""

    def wants(self, phase: Phase) -> bool:
        """Whether anybody is told of that; what nobody is told of is not made."""

    def next_step(self) -> int:
        """The number of the next executed node."""

    def emit(self, event: Event, path: Path) -> None:
        """Pass an event on; never blocks."""

    def emit_many(self, events: Iterable[Event], path: Path, *, count: int) -> None:
        """Pass so many events of one kind on, each made when its turn comes; never blocks."""


@dataclass(slots=True)
class Unheard:
    """The emitter where nobody listens; it counts steps all the same."""

    step: int = 0
    wanted: frozenset[Phase] = field(default=frozenset(), init=False)

    def wants(self, _phase: Phase) -> bool:
        return False

    def next_step(self) -> int:
        self.step += 1
        return self.step - 1

    def emit(self, _event: Event, _path: Path) -> None:
        return None

    def emit_many(self, _events: Iterable[Event], _path: Path, *, count: int) -> None:
        return None


@dataclass(slots=True)
class Collected:
    """Keeps the events of an instance until they travel; its steps count from 0."""

    wanted: frozenset[Phase] = frozenset(Phase)
    events: list[tuple[Event, Path]] = field(default_factory=list)
    step: int = 0
    _home: Home = field(default_factory=Home, repr=False)

    def wants(self, phase: Phase) -> bool:
        return phase in self.wanted

    def next_step(self) -> int:
        self.step += 1
        return self.step - 1

    def emit(self, event: Event, path: Path) -> None:
        if self._home.is_elsewhere:
            self._home.call(self.emit, event, path)
        elif not self.wanted.isdisjoint(event.phases):
            self.events.append((event, path))

    def emit_many(self, events: Iterable[Event], path: Path, *, count: int) -> None:
        for event in events:
            self.emit(event, path)

    def take(self) -> list[tuple[Event, Path]]:
        """The events since the last time."""
        taken, self.events = self.events, []
        return taken
