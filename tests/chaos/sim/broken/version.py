"""A broken version of the protocol: what stands in place of what, while it is tried."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.chaos.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Broken:
    """Takes one rule away from the product, or from what a worker is told to do.

    `shows` says of a scenario whether it can show at all; others need not be played.
    """

    places: tuple[tuple[Any, str, Any], ...]
    shows: Callable[[Scenario], bool] = lambda _scenario: True

    def version(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        for owner, name, instead in self.places:
            stack.enter_context(patch.object(owner, name, instead))
        return stack


def one(owner: Any, name: str, instead: Any, *, shows: Callable[[Scenario], bool] = lambda _scenario: True) -> Broken:
    return Broken(((owner, name, instead),), shows)
