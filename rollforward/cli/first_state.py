"""The first state of a run, from what the command line says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import StateValidationError
from orchestrator.state import State
from rollforward.cli.item_file import InputFileRefused, ItemFile, read_json


@dataclass(frozen=True, kw_only=True)
class FirstState:
    """Where the fields of the first state come from; the later wins: input file, `--set`, items."""

    input_file: Path | None = None
    assignments: Sequence[str] = ()
    item_file: Path | None = None
    into: str | None = None
    fields: dict[str, Any] = field(default_factory=dict, init=False)
    lines: list[int] = field(default_factory=list, init=False)

    def build(self, state_class: type[State]) -> State:
        """Read everything and validate it.

        Raises:
            InputFileRefused: a file is missing or malformed.
            StateValidationError: a field does not exist, or a value does not fit; the sentence names where.
        """
        if self.input_file is not None:
            self.fields.update(self._input(self.input_file))
        for assignment in self.assignments:
            name, value = _assignment(assignment)
            self.fields[name] = value
        items = self._items(state_class)
        _check_fields(state_class, self.fields)
        return _validated(state_class, self.fields, items=items, into=self.into)

    def line_of(self, index: int) -> str | None:
        """The file and the line that an item came from; None where it came from elsewhere."""
        return f"{self.item_file}, line {self.lines[index]}" if index < len(self.lines) else None

    def _input(self, path: Path) -> dict[str, Any]:
        value = read_json(path)
        if not isinstance(value, dict):
            raise InputFileRefused(f"{path} holds no JSON object; write one field of the state per key")
        return value

    def _items(self, state_class: type[State]) -> ItemFile | None:
        if self.item_file is None:
            if self.into is not None:
                raise StateValidationError(f"--into {self.into} needs --items FILE, whose items go into that field")
            return None
        if self.into is None:
            _check_fields(state_class, {})
            names = ", ".join(state_class.model_fields)
            raise StateValidationError(f"--items needs --into FIELD; the state has {names}")
        items = ItemFile.read(self.item_file)
        self.fields[self.into] = items.values
        self.lines.extend(items.lines)
        return items


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise StateValidationError(f"--set {text}: write --set field=json, as in --set limit=10")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise StateValidationError(
            f"--set {name}: {value!r} is no JSON; a text needs quotes, as in --set '{name}=\"{value}\"'", fields=(name,)
        ) from error


def _check_fields(state_class: type[State], fields: dict[str, Any]) -> None:
    unknown = [name for name in fields if name not in state_class.model_fields]
    if unknown:
        raise StateValidationError(
            f"{state_class.__name__} has no field {unknown[0]!r}; it has {', '.join(state_class.model_fields)}",
            fields=tuple(unknown),
        )


def _validated(state_class: type[State], fields: dict[str, Any], *, items: ItemFile | None, into: str | None) -> State:
    try:
        return state_class.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = first["loc"]
        names = tuple(str(part) for part in place)
        where = _where(place, items=items, into=into)
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise StateValidationError(f"{where}: {_plain(first)}{more}", fields=names[:1]) from error


def _where(place: tuple[int | str, ...], *, items: ItemFile | None, into: str | None) -> str:
    if items is not None and len(place) > 1 and place[0] == into and isinstance(place[1], int):
        inside = "".join(f", field {part!r}" for part in place[2:])
        return f"{items.path}, line {items.lines[place[1]]}: item {place[1]} is refused{inside}"
    dotted = ".".join(str(part) for part in place)
    return f"field {dotted!r} is refused" if dotted else "the state is refused"


def _plain(error: Any) -> str:
    if error["type"] == "missing":
        return "it is missing; give it with --input, --set or --items"
    message: str = error["msg"]
    return message[:1].lower() + message[1:]
