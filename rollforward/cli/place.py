"""Whether a run has the fan-out and the index that a reading verb was asked for."""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import TypeVar

import click

from rollforward.cli.record import Record

Row = TypeVar("Row")

MOST_NAMED = 20


async def of_place(
    rows: AsyncIterator[Row], record: Record, *, node: str | None, index: int | None
) -> AsyncIterator[Row]:
    """The rows of a place of a run.

    Raises:
        click.UsageError: there are none, and the run has no such place.
    """
    is_empty = True
    async for row in rows:
        is_empty = False
        yield row
    if is_empty:
        await check_place(record, node=node, index=index)


async def check_place(record: Record, *, node: str | None, index: int | None, also: Collection[str] = ()) -> None:
    """See that a run has that fan-out, and an instance of that index; `also` are other paths that its fan-outs go by.

    Raises:
        click.UsageError: it has not; this says what it has.
    """
    counts: dict[str, int] = {}
    for row in await record.store.fan_outs(record.run.run_id):
        counts[row.key.path] = max(counts.get(row.key.path, 0), row.instance_count)
    missing = _missing(counts, node, index, also)
    if missing is not None:
        has = "has" if record.run.status.has_ended else "has so far"
        raise click.UsageError(f"run {record.run.run_id} {has} {missing}.")


def _missing(counts: Mapping[str, int], node: str | None, index: int | None, also: Collection[str]) -> str | None:
    """What there is not; the index is only judged where the node has its instances counted."""
    if node is not None and node not in counts and node not in also:
        return f"no fan-out {node!r}, but {_named({*counts, *also}) or 'none at all'}"
    asked = {path: count for path, count in counts.items() if node in (None, path)}
    if index is None or not asked or index < max(asked.values()):
        return None
    spans = [f"{path} with 0 to {count - 1}" for path, count in asked.items() if count]
    return f"no instance {index}, but {_named(spans)}"


def _named(names: Collection[str]) -> str:
    shown = sorted(names)[:MOST_NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
