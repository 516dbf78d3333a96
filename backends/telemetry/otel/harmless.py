"""What keeps a processor, an exporter or a mistake of ours from disturbing a run that is traced."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def harmless(instead: Callable[[], R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that logs what it raises, the first time loudly, and then gives what `instead` makes."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        levels = iter((logging.ERROR,))

        @functools.wraps(function)
        def safely(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception:
                level = next(levels, logging.DEBUG)
                logger.log(level, "not traced", exc_info=True, extra={"what": function.__name__})
                return instead()

        return safely

    return decorate


def nothing() -> None:
    """Nothing instead."""
