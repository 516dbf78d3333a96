"""Several observers as one."""

import asyncio
import logging
from collections import Counter
from typing import Any

from orchestrator.observers.event import Event, Phase
from orchestrator.observers.subscription import Observer, Subscription, health_of
from orchestrator.tracing.tracing import Tracing

log = logging.getLogger(__name__)


class CompositeObserver:
    """Tells each of its children, in order, what that one wants.

    What a child wants is what it would be told of if it were attached alone: its `phases`, or the start and the end of
    every attempt. What it raises is logged and counted, and stops neither its siblings nor the run. A child that
    traces is found by whoever attaches this.

    Raises:
        ValueError: a child wants no phase, or one that there is not.
    """

    def __init__(self, *observers: Observer | Tracing) -> None:
        self.children: tuple[Any, ...] = observers
        self._told = [Subscription.of(one) for one in observers if not isinstance(one, Tracing)]
        self._failed: Counter[int] = Counter()

    @property
    def phases(self) -> frozenset[Phase]:
        """What any of them wants."""
        return frozenset[Phase]().union(*(child.phases for child in self._told))

    @property
    def failed(self) -> tuple[int, ...]:
        """How often each of the children has raised, in their order."""
        return tuple(self._failed[id(child)] for child in self.children)

    @property
    def health(self) -> str | None:
        """Why a child is behind, the first of those that say so."""
        return health_of(self.children)

    async def __call__(self, event: Event) -> None:
        for child in self._told:
            if child.wants(event) and not await child.tell(event):
                self._failed[id(child.observer)] += 1

    async def flush(self) -> None:
        """Have every child write what it keeps for later, where it does."""
        await self._each("flush")

    async def close(self) -> None:
        """Close every child that can be closed."""
        await self._each("close")

    async def _each(self, verb: str) -> None:
        methods = [getattr(child, verb) for child in self.children if hasattr(child, verb)]
        for result in await asyncio.gather(*(method() for method in methods), return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("observer failed", exc_info=result)
