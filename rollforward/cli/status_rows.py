"""`rollforward status RUN --rows`."""

from typing import Any

import click

from backends.opening import open_status
from orchestrator.status.row import StatusRow
from orchestrator.status.store import get_status
from rollforward.cli.output import print_rows
from rollforward.cli.record import found_run
from workers.settings import Settings

_COLUMNS = ("at", "node", "fan_out_index", "key", "state", "attempt_index", "delivery_attempt", "worker", "error")


async def print_status_rows(settings: Settings, run_id: str, output: str, *, latest: bool) -> None:
    """Print what became of the instances of a run, row by row, or say on stderr why nothing is kept of that.

    Raises:
        CheckpointNotFound, RunAmbiguous: there is no such run, or several.
    """
    run = await found_run(settings, run_id)
    if settings.status_url is None:
        why = "ROLLFORWARD_STATUS is off, which it must not be where a run is driven and where it is read"
        click.echo(f"no status rows are kept of run {run.run_id}: {why}", err=True)
        return
    store = open_status(settings.status_url, namespace=settings.namespace)
    try:
        rows = await get_status(store, run=run.run_id, latest=latest)
    finally:
        await store.close()
    print_rows([_document(row) for row in rows], output, columns=_COLUMNS)
    if not rows:
        why = "it has no instances yet, or was driven with ROLLFORWARD_STATUS=off; set it to on"
        click.echo(f"no status rows are kept of run {run.run_id}: {why}", err=True)


def _document(row: StatusRow) -> dict[str, Any]:
    """A row as scripts read it."""
    error = {"category": row.error_category, "type": row.error_type, "message": row.error_message}
    return {
        "sequence": row.sequence,
        "at": row.at,
        "run_id": row.run_id,
        "node": row.node_path,
        "lineage": [{"node": level.node, "index": level.index, "branch": level.branch} for level in row.lineage],
        "fan_out_index": row.index,
        "key": row.key,
        "tags": row.tags,
        "state": row.state,
        "attempt_index": row.attempt,
        "delivery_attempt": row.delivery,
        "worker": row.worker,
        "duration_seconds": row.duration_seconds,
        "error": error if row.error_type else None,
        "invocation_id": row.invocation_id,
        "correlation_id": row.correlation_id,
    }
