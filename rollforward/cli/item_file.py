"""The items of a run, from a file: text lines, JSON lines or CSV rows."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import CallerError


class InputFileRefused(CallerError):
    """A file cannot be read as what its name says."""

    category = "input_file_refused"


@dataclass(frozen=True, slots=True)
class ItemFile:
    """Items, and the line that each began on, so that a refusal can name it."""

    path: Path
    values: list[Any]
    lines: list[int]

    @classmethod
    def read(cls, path: Path) -> "ItemFile":
        """Read a file by its suffix: `.jsonl` a JSON value a line, `.csv` a mapping a row, else a string a line.

        Raises:
            InputFileRefused: there is no such file, or a line of it is malformed.
        """
        reader = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _rows}.get(path.suffix.lower(), _text_lines)
        try:
            found = list(reader(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputFileRefused(f"{path} cannot be read: {reason_of(error)}") from error
        return cls(path, [value for _, value in found], [line for line, _ in found])


def read_json(path: Path) -> Any:
    """The JSON value that a file holds.

    Raises:
        InputFileRefused: there is no such file, or it holds something else.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileRefused(f"{path} cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise InputFileRefused(f"{path} is no JSON: {error}") from error


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """What went wrong with a file, without its name."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or str(error)).lower()


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.removesuffix("\n")


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _json_line(path, number, line)


def _json_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputFileRefused(f"{path}, line {number}: malformed JSON: {reason}; put one JSON value on a line") from (
            error
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise InputFileRefused(
                        f"{path}, line {reader.line_num}: the row does not have the header's "
                        f"{len(reader.fieldnames or ())} columns"
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise InputFileRefused(f"{path}, line {reader.reader.line_num}: malformed CSV: {error}") from error
