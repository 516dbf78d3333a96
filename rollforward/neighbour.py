"""The packages beside this one: their names are generic, so that another one may be in the way."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

NAMES = ("orchestrator", "backends", "workers")


def check_neighbours() -> None:
    """See that the packages this one is made of are those it came with.

    Raises:
        ImportError: a foreign package of that name is found first; the message names its file.
    """
    home = Path(__file__).resolve().parents[1]
    for name in NAMES:
        found = _place(sys.modules.get(name) or import_module(name))
        if found != home / name:
            raise ImportError(
                f"{found} is in the way: rollforward has a package of its own that is named {name!r}; rename yours, or "
                "start from a folder that does not hold it",
                name=name,
                path=str(found),
            )


def _place(module: ModuleType) -> Path:
    if module.__file__ is None:
        return Path(next(iter(module.__path__))).resolve()
    file = Path(module.__file__).resolve()
    return file.parent if file.name == "__init__.py" else file
