"""`rollforward cancel`."""

import asyncio

import click

from orchestrator.checkpoint.row import Run, RunStatus
from rollforward.assembly import opened_store
from rollforward.cli.output import print_document
from rollforward.cli.record import found_run
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@output_option()
def command(run_id: str, output: str) -> None:
    """Cancel a run: nothing new starts, what runs is told to stop, what is recorded stays."""
    settings = read_settings()
    run = asyncio.run(found_run(settings, run_id))
    if not run.status.is_over:
        run = asyncio.run(_requested(settings, run.run_id))
    print_document({"run_id": run.run_id, "status": run.status.value, "is_cancel_requested": True}, output)
    click.echo(_sentence(run), err=True)


async def _requested(settings: Settings, run_id: str) -> Run:
    async with opened_store(settings) as store:
        return await store.request_cancel(run_id)


def _sentence(run: Run) -> str:
    if run.status is RunStatus.CANCELLED:
        return f"run {run.run_id} is cancelled"
    if run.status.is_over:
        return f"run {run.run_id} has {run.status.value} already; nothing was done"
    return f"run {run.run_id} is asked to stop; its orchestrator does so within seconds"
