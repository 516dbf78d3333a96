"""The hash that fan-in keeps of what it folded, and that `verify` computes again."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Fold:
    """What fan-in kept of a fan-out: how many contributions it folded, and their `fold_hash`."""

    fan_out: str
    count: int
    hash: str


class FoldHash:
    """The hash over (index, report hash) of contributions, which are added in index order."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)

    def add(self, index: int, report_hash: str) -> None:
        self._digest.update(f"{index}:{report_hash}\n".encode())

    @property
    def text(self) -> str:
        """The hash of what was added, in 32 hex digits."""
        return self._digest.hexdigest()


def fold_hash(contributions: Iterable[tuple[int, str]]) -> str:
    """The `FoldHash` of contributions in index order."""
    folded = FoldHash()
    for index, report_hash in contributions:
        folded.add(index, report_hash)
    return folded.text
