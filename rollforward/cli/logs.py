"""`rollforward logs`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import click

from backends.opening import open_logs
from orchestrator.capture.log_store import EVERYTHING, LogFilter, LogReading, LogRow, LogStore
from orchestrator.log_line import on_lines, on_one_line
from rollforward.cli.output import print_rows, time_text, to_json
from rollforward.cli.place import of_place
from rollforward.cli.record import Record, opened_record
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

LOOK_EVERY_SECONDS = 0.5
LATEST_SECONDS = 1.0
"""So long after the end of a run its last lines may come."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are wanted, and whether those that are still to come."""

    which: LogFilter
    follow: bool


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@click.option("--index", type=click.IntRange(min=0), help="Only the instances with that index.")
@click.option("--node", metavar="PATH", help="Only this fan-out, as in outer/files.")
@click.option("--follow", is_flag=True, help="Go on until the run is over.")
@output_option()
def command(run_id: str, output: str, **options: Any) -> None:
    """Print what the instances of a run put out: their output, their log records, the tracebacks they ended with.

    With --follow and -o json, each line is an object of its own.
    """
    wanted = Wanted(LogFilter(options["index"], options["node"]), follow=options["follow"])
    asyncio.run(_print(read_settings(), run_id, wanted, output=output))


async def _print(settings: Settings, run_id: str, wanted: Wanted, *, output: str) -> None:
    async with opened_record(settings, run_id) as record:
        if settings.logs_url is None:
            _say_why(record, "ROLLFORWARD_LOGS is off, which it must not be where a run is driven and where it is read")
            return
        store = open_logs(settings.logs_url, namespace=settings.namespace)
        try:
            reading = LogReading(store, record.run.run_id, wanted.which)
            read = _followed(record, reading) if wanted.follow else reading.following()
            rows = of_place(read, record, node=wanted.which.node, index=wanted.which.index)
            count = await _print_rows(rows, "jsonl" if wanted.follow and output == "json" else output)
            if not count:
                _say_why(record, await _why(store, record))
        finally:
            await store.close()


async def _why(store: LogStore, record: Record) -> str:
    """Why there are no lines of what was asked for."""
    silent = "they put out nothing, or were cancelled or lost before it was told"
    others, _ = await store.read(record.run.run_id, EVERYTHING, after=0, limit=1)
    return silent if others else f"{silent}, or the run was driven with ROLLFORWARD_LOGS=off; set it to on"


async def _followed(record: Record, reading: LogReading) -> AsyncIterator[LogRow]:
    """The rows as they come, until the run is over and its last ones can be expected to be there."""
    ended_at: float | None = None
    clock = asyncio.get_running_loop().time
    while ended_at is None or clock() < ended_at + LATEST_SECONDS:
        async for row in reading.following():
            yield row
        if ended_at is None and (await record.store.find(record.run.run_id)).status.has_ended:
            ended_at = clock()
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    async for row in reading.following():
        yield row


async def _print_rows(rows: AsyncIterator[LogRow], output: str) -> int:
    """Print rows as they come, but one JSON document at the end; how many there were."""
    gathered: list[dict[str, Any]] = []
    count = 0
    async for row in rows:
        count += 1
        if output == "table":
            click.echo(_line(row))
        elif output == "jsonl":
            click.echo(to_json(_document(row)))
        else:
            gathered.append(_document(row))
    if output == "json":
        print_rows(gathered, output, columns=())
    return count


def _line(row: LogRow) -> str:
    """A row as people read it; what an instance prints can neither command the terminal nor look like another row."""
    inner = "" if row.inner_node is None else row.inner_node.removeprefix(row.node)
    again = f" attempt {row.attempt}" if row.attempt else ""
    place = f"{row.node}[{','.join(map(str, row.indexes))}]{inner}{again}"
    who = place if row.key is None else f"{place} {row.key}"
    what = row.stream.value if row.level is None else f"{row.level} {row.logger}"
    return f"{time_text(row.at)} {on_one_line(who)} {on_one_line(what)}: {on_lines(row.text)}"


def _document(row: LogRow) -> dict[str, Any]:
    """A row as scripts read it."""
    return {
        "at": row.at,
        "run_id": row.run_id,
        "node": row.node,
        "fan_out_index": row.index,
        "fan_out_indexes": row.indexes,
        "key": row.key,
        "inner_node": row.inner_node,
        "attempt_index": row.attempt,
        "delivery_attempt": row.delivery,
        "worker": row.worker,
        "invocation_id": row.invocation_id,
        "correlation_id": row.correlation_id,
        "stream": row.stream,
        "level": row.level,
        "logger": row.logger,
        "text": row.text,
        "is_cut": row.is_cut,
    }


def _say_why(record: Record, reason: str) -> None:
    click.echo(f"nothing is kept of what these instances of run {record.run.run_id} put out: {reason}", err=True)
