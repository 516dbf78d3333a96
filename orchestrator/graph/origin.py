"""Where a function, a class or a graph comes from, in words that are the same in every process."""

import sys
from functools import partial
from pathlib import Path
from typing import Any


def module_name(name: str) -> str:
    """The name that other processes import a module by.

    A script knows itself as `__main__`; a worker imports it by the name after `-m`, or by its file's stem.
    """
    main = sys.modules.get("__main__")
    if name != "__main__" or main is None:
        return name
    if main.__spec__ is not None:
        return main.__spec__.name
    path = getattr(main, "__file__", None)
    return Path(path).stem if path else name


def qualified_name(thing: Any) -> str:
    """`module:name` of a function or class; of anything else that can be called, its class's."""
    while isinstance(thing, partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{module_name(thing.__module__ or '')}:{thing.__qualname__}"
