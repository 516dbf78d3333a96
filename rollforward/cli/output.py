"""Data on stdout: a table for people, JSON for scripts."""

import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.log_line import on_lines

SCHEMA_VERSION = 1
MOST_TABLE_ROWS = 100
_LONGEST_CELL = 60
_WIDTH_WITHOUT_TERMINAL = 160

Row = Mapping[str, Any]


def console(*, stderr: bool = False) -> Console:
    """A console that has room for a table also where no terminal says how wide it is."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False)


def print_document(document: Mapping[str, Any], output: str, *, title: str | None = None) -> None:
    """Print one object: a line of JSON, or a table with a row per field."""
    if output != "table":
        click.echo(to_json({"schema_version": SCHEMA_VERSION, **document}))
        return
    table = Table(title=title, show_header=False, box=None, pad_edge=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in document.items():
        table.add_row(name, cell(value))
    console().print(table)


def print_rows(rows: Iterable[Row], output: str, *, columns: Sequence[str]) -> None:
    """Print objects: as a table of the named columns, a line each, or as `items` of one JSON document."""
    if output == "table":
        _print_table(rows, columns)
    elif output == "jsonl":
        for row in rows:
            click.echo(to_json(row))
    else:
        click.echo(to_json({"schema_version": SCHEMA_VERSION, "items": list(rows), "next_cursor": None}))


async def print_stream(rows: AsyncIterator[Row], output: str, *, columns: Sequence[str]) -> None:
    """`print_rows` of rows that come one by one; JSON lines are printed as they come."""
    if output == "jsonl":
        async for row in rows:
            click.echo(to_json(row))
        return
    most = MOST_TABLE_ROWS if output == "table" else sys.maxsize
    gathered: list[Row] = []
    async for row in rows:
        gathered.append(row)
        if len(gathered) > most:
            break
    print_rows(gathered, output, columns=columns)


def to_json(value: Any) -> str:
    """One line of JSON; times are ISO-8601 in UTC."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def counted(count: int, one: str, many: str | None = None) -> str:
    """So many of something, in words: `1 run`, `2 runs`."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def cell(value: Any) -> Text:
    """A value as one cell of a table: what others have named or raised cannot style it, nor command the terminal."""
    return Text(on_lines(_told(value)))


def time_text(at: datetime) -> str:
    """A time as people read it: in UTC, to the millisecond."""
    return f"{at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')[:-3]}Z"


def _told(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= _LONGEST_CELL * 4 else f"{text[: _LONGEST_CELL * 4]}... ({len(text)} characters)"


def _print_table(rows: Iterable[Row], columns: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="ellipsis", max_width=_LONGEST_CELL)
    remaining = iter(rows)
    for row in islice(remaining, MOST_TABLE_ROWS):
        table.add_row(*(cell(row.get(name)) for name in columns))
    if table.row_count:
        console().print(table)
    if next(remaining, None) is not None:
        click.echo(f"only the first {MOST_TABLE_ROWS} are shown; -o jsonl prints all", err=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is no JSON value")
