"""`rollforward items`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import click

from rollforward.cli.instance import STATES, Span, instances
from rollforward.cli.output import print_stream
from rollforward.cli.record import Record, opened_record
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

_COLUMNS = ("fan_out", "fan_out_index", "key", "state", "delivery_attempt", "worker", "duration_seconds", "error")


class SpanType(click.ParamType[Span]):
    """`7`, `10-20` or `10-`: indexes from and including the first to and including the last."""

    name = "index"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Span:
        """Read the text."""
        first, dash, last = str(value).partition("-")
        if not first.isdigit() or not (last.isdigit() or last == ""):
            self.fail(f"{value!r} is no range of indexes; write 7, 10-20 or 10-.", parameter, context)
        if not dash:
            return Span(int(first), int(first) + 1)
        return Span(int(first), int(last) + 1 if last else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which instances are wanted; `limit` 0 is all."""

    states: frozenset[str]
    span: Span
    fan_out: str | None
    limit: int = 0


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only these; may be repeated.")
@click.option("--index", "span", type=SpanType(), default="0-", metavar="10-20", help="Only these indexes.")
@click.option("--node", "--fan-out", "fan_out", metavar="PATH", help="Only this fan-out, as in outer/files.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="At most so many.")
@output_option()
def command(run_id: str, output: str, **options: Any) -> None:
    """Show the instances of a run, by index."""
    options["states"] = frozenset(options["states"])
    asyncio.run(_print(read_settings(), run_id, Selection(**options), output=output))


async def _print(settings: Settings, run_id: str, selection: Selection, *, output: str) -> None:
    async with opened_record(settings, run_id) as record:
        await print_stream(selected(record, selection), output, columns=_COLUMNS)


async def selected(record: Record, selection: Selection) -> AsyncIterator[dict[str, Any]]:
    """The instances that are wanted, fan-out by fan-out in the order they were entered."""
    given = 0
    for row in await record.store.fan_outs(record.run.run_id):
        if selection.fan_out not in (None, row.key.path):
            continue
        async for instance in instances(record, row, selection.span):
            if selection.states and instance["state"] not in selection.states:
                continue
            yield instance
            given += 1
            if given == selection.limit:
                return
