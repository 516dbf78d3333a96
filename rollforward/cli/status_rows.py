"""`rollforward status RUN --rows`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from backends.opening import open_status
from orchestrator.observers.event import InstanceState
from orchestrator.status.row import StatusRow
from orchestrator.status.store import StatusFilter, StatusStore, read_once
from rollforward.cli.output import MOST_TABLE_ROWS, print_rows
from rollforward.cli.place import check_place
from rollforward.cli.record import Record, opened_record
from workers.settings import Settings

ROW_STATES = tuple(state.value for state in InstanceState)
_OFF = ": ROLLFORWARD_STATUS is off, which it must not be where a run is driven and where it is read"
_NONE = ": it has no instances yet, or was driven with ROLLFORWARD_STATUS=off; set it to on"
_NO_SUCH = " that are like this"
_COLUMNS = (
    *("at", "node", "fan_out_index", "key", "state", "attempt_index", "delivery_attempt", "worker"),
    *("duration_seconds", "error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRows:
    """Which rows are wanted: of every state where none is named."""

    states: Sequence[str] = ()
    index: int | None = None
    node: str | None = None
    latest: bool = False


async def print_status_rows(settings: Settings, run_id: str, output: str, *, wanted: WantedRows) -> None:
    """Print what became of the instances of a run, row by row, or say on stderr why nothing is kept of that.

    Raises:
        CheckpointNotFound, RunAmbiguous: there is no such run, or several.
        click.UsageError: it has no such fan-out, or no instance of that index.
    """
    async with opened_record(settings, run_id) as record:
        if settings.status_url is None:
            _say_why(record, _OFF)
            return
        store = open_status(settings.status_url, namespace=settings.namespace)
        try:
            # One more than a table shows, which then says that there are more.
            limit = MOST_TABLE_ROWS + 1 if output == "table" else None
            rows = await _read(store, record, wanted, limit=limit)
        finally:
            await store.close()
        print_rows([_document(row) for row in rows], output, columns=_COLUMNS)


async def _read(store: StatusStore, record: Record, wanted: WantedRows, *, limit: int | None) -> list[StatusRow]:
    of_run = StatusFilter(record.run.run_id)
    node = None if wanted.node is None else tuple(wanted.node.split("/"))
    which = replace(of_run, node=node, index=wanted.index, latest=wanted.latest, limit=limit)
    rows: list[StatusRow] = []
    for state in map(InstanceState, wanted.states) if wanted.states else (None,):
        rows += await read_once(store, replace(which, state=state))
    if not rows:
        of_first = await store.read(replace(of_run, index=0))
        paths = {row.node_path for row in of_first}
        await check_place(record, node=wanted.node, index=wanted.index, also=paths)
        _say_why(record, _NO_SUCH if of_first else _NONE)
    return sorted(rows, key=lambda row: row.sequence)


def _say_why(record: Record, reason: str) -> None:
    click.echo(f"no status rows are kept of run {record.run.run_id}{reason}", err=True)


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
