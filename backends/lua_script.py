"""The Lua scripts of a package, one a verb."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

_PRELUDE = "prelude.lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name under which a server keeps it."""

    text: str
    sha: str


@cache
def script(package: str, verb: str) -> Script:
    """The script of a verb in the folder `lua` of a package, with what all of them share in front."""
    folder = files(package) / "lua"
    text = "\n".join((folder / name).read_text() for name in (_PRELUDE, f"{verb}.lua"))
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def scripts(package: str) -> tuple[Script, ...]:
    """Every script of a package.

    A server that lacks one is told all of them, since who may only read from it cannot tell it any.
    """
    names = sorted(file.name for file in (files(package) / "lua").iterdir())
    return tuple(script(package, name.removesuffix(".lua")) for name in names if name != _PRELUDE)
