"""Context variables that hold a value for a while."""

from contextvars import ContextVar, Token
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Holding(Generic[T]):
    """Have `variable` hold `value` in here; used once.

    A class and no generator: an instance enters several, and each is a share of what it costs.
    """

    __slots__ = ("_before", "_value", "_variable")

    def __init__(self, variable: ContextVar[Any], value: T) -> None:
        self._variable = variable
        self._value = value
        self._before: Token[Any] | None = None

    def __enter__(self) -> T:
        self._before = self._variable.set(self._value)
        return self._value

    def __exit__(self, *_: object) -> None:
        assert self._before is not None
        self._variable.reset(self._before)
