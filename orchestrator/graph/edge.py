"""What leads from one node to the next."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class End(Enum):
    """The type of `END`."""

    END = "END"

    def __repr__(self) -> str:
        return "END"


END: Final = End.END
"""Where a graph ends."""

Target = str | End
"""A node's name, or END."""

Choice = Callable[[Any], Target]
"""What a conditional edge asks: a plain function of the state after the node."""


@dataclass(frozen=True, slots=True)
class StaticEdge:
    """Leads from one node to one target, whatever the state."""

    source: str
    target: Target


@dataclass(frozen=True, slots=True)
class ConditionalEdge:
    """Leads to whatever `choose` names."""

    source: str
    choose: Choice


Edge = StaticEdge | ConditionalEdge
