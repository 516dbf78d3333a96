"""The Lua scripts of a package, one a verb."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name under which a server keeps it."""

    text: str
    sha: str


@cache
def script(package: str, verb: str) -> Script:
    """The script of a verb in the folder `lua` of a package, with what all of them share in front."""
    folder = files(package) / "lua"
    text = "\n".join((folder / f"{name}.lua").read_text() for name in ("prelude", verb))
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
