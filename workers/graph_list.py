"""The graphs of a process: imported from what its settings list, never from what a message names."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from orchestrator.errors import CallerError
from orchestrator.execution.mapping import map_graph

_is_importing: ContextVar[bool] = ContextVar("is_importing", default=False)


class GraphModuleBroken(CallerError):
    """An entry of ROLLFORWARD_GRAPHS cannot be imported."""

    category = "graph_module_broken"

    def __init__(self, entry: str, reason: str) -> None:
        self.entry = entry
        self.reason = reason
        super().__init__(f"cannot import {entry!r} of ROLLFORWARD_GRAPHS: {reason}; correct the entry or the module")


def load_graphs(entries: Sequence[str]) -> None:
    """Import every `module` or `module:function`, with the current folder on the path.

    The graphs of a module register themselves; a function is registered as the graph that maps it.

    Raises:
        GraphModuleBroken: an entry does not import, or names no function.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    for entry in entries:
        _load(entry)


@contextmanager
def importing() -> Iterator[None]:
    """Mark what runs in the block as the import of a user's module, which is no place to start a run from."""
    before = _is_importing.set(True)
    try:
        yield
    finally:
        _is_importing.reset(before)


def is_importing() -> bool:
    """Whether this code runs because a user's module is imported for its graphs."""
    return _is_importing.get()


@cache
def _load(entry: str) -> None:
    module_name, _, function_name = entry.partition(":")
    try:
        with importing():
            module = importlib.import_module(module_name)
    except Exception as error:
        raise GraphModuleBroken(entry, f"{type(error).__name__}: {error}") from error
    if function_name:
        function = getattr(module, function_name, None)
        if not callable(function):
            raise GraphModuleBroken(entry, f"the module has no function {function_name!r}")
        map_graph(function)
