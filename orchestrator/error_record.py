"""An error as data, as reports, rows and events carry it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CauseLink:
    """One exception of a chain, outermost first; a carrier only wraps the one that says what happened."""

    category: str | None
    message: str
    type: str
    carrier: bool = False


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as data: nothing in it is ever imported or rebuilt by name.

    `category` and `message` are those of the outermost link that is no carrier; `traceback` is text.
    """

    category: str | None
    message: str
    type: str
    traceback: str = ""
    chain: tuple[CauseLink, ...] = ()

    @property
    def shown_category(self) -> str:
        """The category as people and scripts are shown it: an exception without one of its own was raised by a node."""
        return self.category or "node_exception"

    @property
    def sentence(self) -> str:
        """What the whole error says, with where it happened as far as that is known."""
        return self.chain[0].message if self.chain else self.message

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ErrorRecord":
        chain = tuple(CauseLink(**link) for link in value.get("chain", ()))
        return cls(**{**value, "chain": chain})
