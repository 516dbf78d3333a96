"""The fixtures as documents whose every key must be used: what nobody asks for, the runner does not know."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PARTS = ("graph-engine", "pipeline-utilities", "observability")
PROSE = frozenset({"name", "description"})
"""What only people read."""
# Each of several test processes reads all fixtures, and the C library does so in a fifth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnknownDirective(AssertionError):
    """A fixture says something that the runner does not know (`fixture_directive_unknown`)."""


class Section:
    """A mapping of a fixture that remembers which of its keys were asked for."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values = values
        self._asked: set[str] = set(PROSE)
        self._children: dict[str, Section] = {}
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def values(self) -> Mapping[str, Any]:
        """All that it says, without asking for it."""
        return self._values

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._values)

    def take(self, key: str, default: Any = None) -> Any:
        """A value with all that is in it; it counts as used."""
        self._asked.add(key)
        return self._values.get(key, default)

    def section(self, key: str) -> "Section":
        """A mapping in it, empty where there is none."""
        self._asked.add(key)
        return self._child(self._values.get(key) or {}, key)

    def sections(self, key: str) -> Iterator[tuple[str, "Section"]]:
        """The mappings of a mapping, by name."""
        self._asked.add(key)
        for name, value in (self._values.get(key) or {}).items():
            yield name, self._child(value, f"{key}.{name}")

    def listed(self, key: str) -> list["Section"]:
        """The mappings of a list."""
        self._asked.add(key)
        values = self._values.get(key) or []
        return [self._child(value, f"{key}[{index}]") for index, value in enumerate(values)]

    def unused(self) -> list[str]:
        """The paths of the keys that nobody asked for."""
        own = [f"{self.path}.{key}" for key in self._values if key not in self._asked]
        return own + [path for child in self._children.values() for path in child.unused()]

    def _child(self, values: Any, key: str) -> "Section":
        if not isinstance(values, Mapping):
            raise UnknownDirective(f"{self.path}.{key} is {values!r}, and a mapping was expected")
        if key not in self._children:
            self._children[key] = Section(values, f"{self.path}.{key}")
        return self._children[key]


@dataclass(frozen=True)
class Case:
    """One case of one fixture; `address` is `folder/file::case`."""

    address: str
    values: Mapping[str, Any]

    def section(self) -> Section:
        return Section(self.values, self.address)


def cases(folders: Sequence[Path], parts: tuple[str, ...] = PARTS) -> list[Case]:
    """Every case of every fixture of these folders.

    Raises:
        FileNotFoundError: a folder has none.
        ValueError: two cases have one address.
    """
    found = [case for folder in folders for case in _of_folder(folder, parts)]
    twice = [address for address, count in Counter(case.address for case in found).items() if count > 1]
    if twice:
        raise ValueError(f"two cases are called {', '.join(twice)}; give one of them another name")
    return found


def _of_folder(folder: Path, parts: tuple[str, ...]) -> list[Case]:
    found = [case for part in parts for file in sorted((folder / part).glob("*.yaml")) for case in _of_file(file)]
    if not found:
        raise FileNotFoundError(f"no fixtures in {folder}")
    return found


def _of_file(file: Path) -> Iterator[Case]:
    document = yaml.load(file.read_text(), _LOADER)
    shared = {key: value for key, value in document.items() if key != "cases"}
    address = f"{file.parent.name}/{file.stem}"
    if "cases" not in document:
        yield Case(f"{address}::case", shared)
    for case in document.get("cases", ()):
        yield Case(f"{address}::{case['name']}", _merged(shared, case))


def _merged(shared: Mapping[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    own = {**{key: value for key, value in case.items() if key != "graph"}, **case.get("graph", {})}
    both = {key: {**shared[key], **own[key]} for key in ("subgraphs", "invariants") if key in shared and key in own}
    return {**shared, **own, **both}
