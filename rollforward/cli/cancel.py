"""`rollforward cancel`."""

import asyncio
import uuid
from datetime import timedelta

import click

from orchestrator.checkpoint.protocol import CheckpointStore, RunIsOver
from orchestrator.checkpoint.row import Run, RunStatus, Seen
from orchestrator.errors import Fenced, OperatorError, RunIsDriven
from rollforward.assembly import open_orchestrator_ledger, opened_store
from rollforward.cli.output import print_document
from rollforward.cli.record import found_run, redis_url
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from rollforward.liveness import is_dead
from workers.process import this_owner
from workers.settings import Settings

_LEASE = timedelta(seconds=10)


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@output_option()
def command(run_id: str, output: str) -> None:
    """Cancel a run: nothing new starts, what runs is told to stop, what is recorded stays."""
    settings = read_settings()
    run = asyncio.run(found_run(settings, run_id))
    if not run.status.is_over:
        run = asyncio.run(_requested(settings, run.run_id))
    problem = asyncio.run(_clear_queue(settings, run)) if run.status is RunStatus.CANCELLED else None
    print_document({"run_id": run.run_id, "status": run.status.value, "is_cancel_requested": True}, output)
    click.echo(_sentence(run), err=True)
    if problem is not None:
        click.echo(problem, err=True)


async def _requested(settings: Settings, run_id: str) -> Run:
    async with opened_store(settings) as store:
        run = await store.request_cancel(run_id)
        if run.status is RunStatus.RUNNING and run.owner is not None and is_dead(run.owner):
            await _cancel_instead_of(store, run)
            run = await store.find(run_id)
        return run


async def _cancel_instead_of(store: CheckpointStore, run: Run) -> None:
    """Do what the dead owner of a run cannot do any more; its lease need not be waited for."""
    try:
        own = await store.acquire(
            run.run_id,
            str(this_owner("orchestrator")),
            invocation_id=str(uuid.uuid4()),
            lease=_LEASE,
            seen=Seen(run.epoch, has_dead_owner=True),
        )
        await store.finish(own, RunStatus.CANCELLED)
    except (RunIsDriven, RunIsOver, Fenced):
        return  # by another orchestrator, which finds the wish to cancel, or has ended the run


async def _clear_queue(settings: Settings, run: Run) -> str | None:
    """Take a cancelled run out of the ledger, so that nothing queued begins and what runs is told; say why not."""
    url = redis_url(settings)
    if url is None or run.epoch == 0:
        return None
    ledger = open_orchestrator_ledger(settings.model_copy(update={"redis_url": url}))
    try:
        await ledger.forget(run.run_id, run.epoch)
    except (OperatorError, Fenced) as error:
        return (
            f"what was queued may still begin, and nothing of it is recorded: {error}; "
            f"then run `rollforward cancel {run.run_id}` again"
        )
    finally:
        await ledger.close_connections()
    return None


def _sentence(run: Run) -> str:
    if run.status is RunStatus.CANCELLED:
        return f"run {run.run_id} is cancelled"
    if run.status.is_over:
        return f"run {run.run_id} has {run.status.value} already; nothing was done"
    return f"run {run.run_id} is asked to stop; its orchestrator does so within seconds"
