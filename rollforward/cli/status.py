"""`rollforward status`."""

import asyncio
import sys
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rollforward.cli.instance import STATES
from rollforward.cli.output import cell, console, counted, print_document
from rollforward.cli.record import opened_record
from rollforward.cli.setting import read_settings
from rollforward.cli.standing import Standing, standing
from rollforward.cli.status_rows import ROW_STATES, WantedRows, print_status_rows
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

_WATCH_EVERY_SECONDS = 1.0
_ROW_STATES = click.Choice(ROW_STATES, case_sensitive=False)


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@click.option("--watch", is_flag=True, help="Look again every second until the run ends.")
@click.option("--rows", is_flag=True, help="Show every state that each instance came to, in order.")
@click.option("--latest", is_flag=True, help="Of the rows, only the last one of each instance.")
@click.option("--state", "states", type=_ROW_STATES, multiple=True, help="Of the rows, only these; may be repeated.")
@click.option("--index", type=click.IntRange(min=0), help="Of the rows, only those of instances with that index.")
@click.option("--node", metavar="PATH", help="Of the rows, only those of this fan-out, as in outer/files.")
@output_option()
def command(run_id: str, output: str, *, watch: bool, rows: bool, **which: Any) -> None:
    """Show where a run stands: counts, rate, time to go, and what is wrong.

    An option that chooses among the rows shows rows.
    """
    settings, wanted = read_settings(), WantedRows(**which)
    if rows or wanted != WantedRows():
        if watch:
            raise click.UsageError("rows are what is kept by now; leave --watch out")
        asyncio.run(print_status_rows(settings, run_id, output, wanted=wanted))
    elif not watch:
        _print(asyncio.run(_look(settings, run_id)), output)
    elif output == "table" and sys.stdout.isatty():
        asyncio.run(_watch_live(settings, run_id))
    else:
        asyncio.run(_watch_lines(settings, run_id, output))


async def _look(settings: Settings, run_id: str) -> Standing:
    async with opened_record(settings, run_id) as record:
        return await standing(record, settings)


async def _watch_lines(settings: Settings, run_id: str, output: str) -> None:
    while True:
        seen = await _look(settings, run_id)
        _print(seen, output)
        sys.stdout.flush()
        if seen.run.status.has_ended:
            return
        await asyncio.sleep(_WATCH_EVERY_SECONDS)


async def _watch_live(settings: Settings, run_id: str) -> None:
    with Live(console=console()) as live:
        while True:
            seen = await _look(settings, run_id)
            live.update(drawn(seen))
            if seen.run.status.has_ended:
                return
            await asyncio.sleep(_WATCH_EVERY_SECONDS)


def _print(seen: Standing, output: str) -> None:
    if output == "table":
        console().print(drawn(seen))
    else:
        print_document(seen.to_json(), output)


def drawn(seen: Standing) -> RenderableType:
    """Where a run stands, for people."""
    run = seen.run
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_row("run", run.run_id)
    facts.add_row("status", run.status.value)
    facts.add_row("graph", f"{run.graph} ({run.fingerprint})")
    facts.add_row("created", cell(run.created_at))
    facts.add_row("rate", f"{seen.rate_per_s:.1f}/s" + ("" if seen.eta_s is None else f", {seen.eta_s:.0f} s to go"))
    losses = sum(fan_out["losses"] for fan_out in seen.fan_outs)
    if losses:
        facts.add_row("losses", f"{counted(losses, 'delivery', 'deliveries')} ended with the worker")
    if run.error is not None:
        facts.add_row("error", cell(run.error.sentence))
    problems = [Text(f"! {problem.message}", style="red") for problem in seen.problems]
    return Group(facts, Text(""), _counts(seen), *problems)


def _counts(seen: Standing) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("fan-out")
    for name in ("total", *STATES):
        table.add_column(name, justify="right")
    for fan_out in seen.fan_outs:
        numbers = (fan_out["total"], *(fan_out["counts"][state] for state in STATES))
        table.add_row(fan_out["fan_out"], *map(str, numbers))
    return table
