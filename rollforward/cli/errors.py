"""`rollforward errors`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import click

from orchestrator.checkpoint.row import SlotRow
from orchestrator.error_record import ErrorRecord
from orchestrator.identity import FanOutKey
from rollforward.cli.output import print_rows, print_stream
from rollforward.cli.record import Record, lineage_json, opened_record
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

_COLUMNS = ("node", "fan_out_index", "key", "type", "category", "message")
_GROUP_COLUMNS = ("count", "message", "example")


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@click.option(
    "--group-by", type=click.Choice(["type", "node"]), help="Count by the error's type, or where it came from."
)
@output_option()
def command(run_id: str, group_by: str | None, output: str) -> None:
    """Show what failed in a run: its instances, and the run itself."""
    asyncio.run(_print(read_settings(), run_id, group_by, output=output))


async def _print(settings: Settings, run_id: str, group_by: str | None, *, output: str) -> None:
    async with opened_record(settings, run_id) as record:
        if group_by is None:
            await print_stream(errors(record), output, columns=_COLUMNS)
            return
        groups = await _grouped(record, group_by)
        print_rows(groups, output, columns=(group_by, *_GROUP_COLUMNS))


async def errors(record: Record) -> AsyncIterator[dict[str, Any]]:
    """Every error that is kept: those of instances by index, then the run's own, unless an instance's was the cause."""
    run = record.run
    is_told = run.error is None
    for row in await record.store.fan_outs(run.run_id):
        async for slot, error in _failed(record, row.id):
            is_told = is_told or _is_cause(error, run.error)
            yield _instance_error(row.key, slot, error)
    if run.error is not None and not is_told:
        nowhere: dict[str, Any] = {"fan_out": None, "lineage": [], "fan_out_index": None, "key": None}
        yield {**nowhere, "node": _node_of(run.error), **_facts(run.error)}


async def _failed(record: Record, fan_out: str) -> AsyncIterator[tuple[SlotRow, ErrorRecord]]:
    """What failed in a fan-out: what was collected, then what a resume runs again."""
    for rows in (record.store.slots(record.run.run_id, fan_out), record.store.errors(record.run.run_id, fan_out)):
        async for slot in rows:
            if slot.report.error is not None:
                yield slot, slot.report.error


def _is_cause(error: ErrorRecord, whole: ErrorRecord | None) -> bool:
    """Whether another error only says where this one has led to."""
    return whole is not None and bool(error.chain) and whole.chain[-len(error.chain) :] == error.chain


async def _grouped(record: Record, group_by: str) -> list[dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    async for error in errors(record):
        name = error[group_by] or ""
        first = {
            group_by: name,
            "count": 0,
            "message": error["message"],
            "example": error["key"] or error["fan_out_index"],
        }
        groups.setdefault(name, first)["count"] += 1
    return sorted(groups.values(), key=lambda group: -group["count"])


def _instance_error(key: FanOutKey, slot: SlotRow, error: ErrorRecord) -> dict[str, Any]:
    report = slot.report
    return {
        "fan_out": key.path,
        "lineage": lineage_json(key.lineage),
        "fan_out_index": report.slot.index,
        "key": slot.key,
        "node": "/".join(part for part in (key.path, _node_of(error)) if part),
        **_facts(error),
        "delivery_attempt": report.delivery,
        "attempts": report.attempts,
        "worker": report.worker,
    }


def _facts(error: ErrorRecord) -> dict[str, Any]:
    return {
        "type": error.type,
        "category": error.shown_category,
        "message": error.message,
        "traceback": error.traceback,
    }


def _node_of(error: ErrorRecord) -> str | None:
    """The innermost node that an error passed through: wrappers of nodes say their names."""
    named = [link.message.split("'")[1] for link in error.chain if link.carrier and link.message.count("'") > 1]
    return named[-1] if named else None
