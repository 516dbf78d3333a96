"""`rollforward ls`."""

import asyncio
from typing import Any

import click

from orchestrator.checkpoint.row import Run, RunFilter, RunStatus
from rollforward.assembly import opened_store
from rollforward.cli.output import print_rows
from rollforward.cli.record import missing_file
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

_COLUMNS = ("run_id", "status", "graph", "created_at", "ended_at", "error")


@click.command(cls=Verb)
@click.option("--status", "statuses", type=click.Choice([status.value for status in RunStatus]), multiple=True)
@click.option("--graph", "graphs", multiple=True, metavar="NAME", help="Runs of this graph only.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_option()
def command(statuses: tuple[str, ...], graphs: tuple[str, ...], limit: int, output: str) -> None:
    """List runs, newest first."""
    wanted = RunFilter(
        statuses=frozenset(RunStatus(status) for status in statuses), graphs=frozenset(graphs), limit=limit
    )
    runs = asyncio.run(_listed(read_settings(), wanted))
    print_rows([run_row(run) for run in runs], output, columns=_COLUMNS)
    if not runs and output == "table":
        click.echo("no runs", err=True)


def run_row(run: Run) -> dict[str, Any]:
    """A run as scripts read it."""
    return {
        "run_id": run.run_id,
        "invocation_id": run.invocation_id,
        "status": run.status.value,
        "graph": run.graph,
        "fingerprint": run.fingerprint,
        "correlation_id": run.correlation_id,
        "metadata": dict(run.metadata),
        "created_at": run.created_at,
        "ended_at": run.ended_at,
        "owner": run.owner,
        "code_version": run.code_version,
        "error": None if run.error is None else run.error.sentence,
    }


async def _listed(settings: Settings, wanted: RunFilter) -> list[Run]:
    if missing_file(settings) is not None:
        return []
    async with opened_store(settings) as store:
        return await store.list_runs(wanted)
