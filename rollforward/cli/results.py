"""`rollforward results`."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click

from rollforward.cli.item_file import InputFileRefused, reason_of
from rollforward.cli.output import print_stream, to_json
from rollforward.cli.record import Record, lineage_json, opened_record
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

_COLUMNS = ("fan_out", "fan_out_index", "key", "result")
_FILE = click.Path(path_type=Path, allow_dash=True)
_STDOUT = Path("-")


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@click.option("--to", "target", type=_FILE, metavar="FILE.jsonl", help="Write JSON lines there; - is stdout.")
@output_option()
def command(run_id: str, target: Path | None, output: str) -> None:
    """Print what the instances that succeeded gave, by index; they need not all be done."""
    asyncio.run(_print(read_settings(), run_id, target, output=output))


async def _print(settings: Settings, run_id: str, target: Path | None, *, output: str) -> None:
    async with opened_record(settings, run_id) as record:
        if target in (None, _STDOUT):
            await print_stream(results(record), output if target is None else "jsonl", columns=_COLUMNS)
        else:
            await _write(results(record), target)


async def results(record: Record) -> AsyncIterator[dict[str, Any]]:
    """What each instance contributed, as its codec wrote it: the collected field and every extra output."""
    for row in await record.store.fan_outs(record.run.run_id):
        async for slot in record.store.slots(record.run.run_id, row.id):
            if slot.report.partial is not None:
                yield {
                    "fan_out": row.key.path,
                    "lineage": lineage_json(row.key.lineage),
                    "visit": row.key.visit,
                    "fan_out_index": slot.report.slot.index,
                    "key": slot.key,
                    "result": json.loads(slot.report.partial),
                }


async def _write(rows: AsyncIterator[dict[str, Any]], target: Path) -> None:
    # Written beside the target first, so that what was there stays whole if this is cut short.
    draft = target.with_name(f"{target.name}.part")
    written = 0
    try:
        with draft.open("w", encoding="utf-8") as file:
            async for row in rows:
                file.write(to_json(row) + "\n")
                written += 1
        draft.replace(target)
    except OSError as error:
        raise InputFileRefused(f"{target} cannot be written: {reason_of(error)}") from error
    click.echo(f"{written} results in {target}", err=True)
