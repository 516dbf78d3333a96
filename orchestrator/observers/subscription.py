"""Who is told what."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.observers.event import NODE_PHASES, Event, Phase

log = logging.getLogger(__name__)

Observer = Callable[[Event], Awaitable[None]]
"""`async (event) -> None`; what it raises is logged, and disturbs neither the run nor other observers."""


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """An observer and the phases that it is told of; caught failures are told to whoever is told of nodes."""

    observer: Observer
    phases: frozenset[Phase] = NODE_PHASES

    @classmethod
    def of(cls, observer: Observer, phases: Iterable[Phase | str] | None = None) -> "Subscription":
        """Subscribe to these phases; by default to the observer's own `phases`.

        One that has no such attribute is told of the start and the end of every attempt.

        Raises:
            ValueError: no phase at all, or one that there is not.
        """
        wanted = getattr(observer, "phases", NODE_PHASES) if phases is None else phases
        asked = frozenset(Phase(phase) for phase in wanted)
        if not asked and phases is not None:
            raise ValueError(f"an observer of no phase is never told anything; pass some of {', '.join(Phase)}")
        return cls(observer, asked)

    def wants(self, event: Event) -> bool:
        return not self.phases.isdisjoint(event.phases)

    async def tell(self, event: Event) -> bool:
        """Tell the observer, and say whether it took it: what it raises is logged, and is nobody else's matter.

        Only what ends the process does so from here too.
        """
        try:
            await self.observer(event)
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # A panic of Rust code is no Exception, and as little anybody else's matter.
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            log.exception("observer failed", extra={"run_id": event.run_id, "observer": repr(self.observer)})
            return False
        return True


def health_of(observers: Iterable[Any]) -> str | None:
    """Why one of them is behind, the first that has a `health` and is."""
    return next((health for one in observers if (health := getattr(one, "health", None)) is not None), None)


class RemoveHandle:
    """Takes an observer off the graph that it was attached to."""

    def __init__(self, attached: Sequence[tuple[list[Any], Any]]) -> None:
        self._attached = attached

    def remove(self) -> None:
        """Tell it nothing of later invocations; those under way go on telling it. Once more does nothing."""
        for where, one in self._attached:
            if one in where:
                where.remove(one)
        self._attached = ()


def _is_cancelled() -> bool:
    """Whether the task itself is to end; an observer may as well let out the cancellation of what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
