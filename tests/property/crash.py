"""A process that ends right after one of its writes, as far as its store and its ledger can tell."""

from collections.abc import Awaitable, Callable
from typing import Any

WRITES = frozenset({"save_step", "open_fan_out", "record", "record_inner", "record_losses", "finish"})


class Crashed(Exception):
    """The process is no more."""


class CrashAfter:
    """A store that takes `writes` writes, the last of them whole, and fails everything after; None takes all."""

    def __init__(self, inner: Any, writes: int | None = None) -> None:
        self._inner = inner
        self._left = writes
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._counted(found) if name in WRITES else found

    @property
    def has_crashed(self) -> bool:
        return self._left is not None and self.count >= self._left

    def dying_with(self, other: Any) -> Any:
        """Another thing that the process uses: nothing is asked of it after the crash."""
        return _DyingWith(self, other)

    def _counted(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any, **named: Any) -> Any:
            if self.has_crashed:
                raise Crashed
            answer = await write(*arguments, **named)
            self.count += 1
            if self.has_crashed:
                raise Crashed
            return answer

        return counted


class _DyingWith:
    def __init__(self, store: CrashAfter, inner: Any) -> None:
        self._store = store
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if self._store.has_crashed:
            raise Crashed
        return getattr(self._inner, name)
