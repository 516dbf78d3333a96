"""What an instance tells while it runs: for the delivery after this one, for the record, and for observers."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import EnclosingInstance, FanOutKey
from orchestrator.metadata import read_back
from orchestrator.reading import read_json, refusing, sound
from orchestrator.report import Report

NO_INPUTS = "{}"
ITEM_HASH_BYTES = 8
MOST_INSTANCES = 1_000_000


@dataclass(frozen=True, slots=True)
class NestedOpened:
    """A fan-out was entered inside the instance. Of the row, the orchestrator adds the position.

    The row's item hashes say what each nested instance began with, see `first_state_hash`; a record that was seeded
    has none.
    """

    row: FanOutRow


@dataclass(frozen=True, slots=True)
class NestedReported:
    """A nested instance has contributed; `key` is what people call it."""

    report: Report
    key: str | None = None


@dataclass(frozen=True, slots=True)
class NodeCompleted:
    """A node inside the instance was completed for good. Of the step, the orchestrator adds the position."""

    step: Step


@dataclass(frozen=True, slots=True)
class EventsTold:
    """What happened in one delivery of the instance, as `orchestrator.wire` encodes it."""

    invocation_id: str
    delivery: int
    events: tuple[str, ...]


def told_with(report: Report) -> EventsTold:
    """The last that an instance has told."""
    return EventsTold(report.invocation_id, report.delivery, report.events)


Entry = NestedOpened | NestedReported | NodeCompleted | EventsTold


def write_entry(entry: Entry) -> bytes:
    """An entry as the ledger keeps it."""
    match entry:
        case NestedOpened(row):
            told: dict[str, Any] = {"kind": "nested_opened", **_row_fields(row)}
        case NestedReported(report, key):
            told = {"kind": "nested_reported", "report": report.to_json().decode(), "key": key}
        case NodeCompleted(step):
            told = {"kind": "node_completed", **_step_fields(step)}
        case EventsTold():
            told = {"kind": "events_told", **asdict(entry)}
    return json.dumps(told, separators=(",", ":")).encode()


def read_entries(texts: Iterable[bytes]) -> list[Entry]:
    """The entries that this version can read, in the order they were kept in; what the others say is done again."""
    return [entry for text in texts if (entry := _read(text)) is not None]


def first_state_hash(item: bytes, inputs: str) -> bytes:
    """What two instances have in common that begin with the same state: a hash of `ITEM_HASH_BYTES`.

    Where there are no inputs it is the item's hash, as a fan-out has it whose items the orchestrator hands out.
    """
    told = blake2b(item, digest_size=ITEM_HASH_BYTES)
    if inputs != NO_INPUTS:
        told.update(b"\0" + inputs.encode())
    return told.digest()


def _read(text: bytes) -> Entry | None:
    # A worker of another version may have kept it, in the middle of an upgrade.
    with contextlib.suppress(ValueError), refusing("an entry"):
        told = read_json(text)
        match told.pop("kind"):
            case "nested_opened":
                return sound(NestedOpened(_row(told)))
            case "nested_reported":
                return sound(NestedReported(Report.from_json(told["report"]), told["key"]))
            case "node_completed":
                return sound(NodeCompleted(_step(told)))
            case "events_told":
                return sound(EventsTold(told["invocation_id"], told["delivery"], tuple(told["events"])))
    return None


def _row_fields(row: FanOutRow) -> dict[str, Any]:
    return {
        "key": row.key.to_json(),
        "instance_count": row.instance_count,
        "item_hashes": row.item_hashes.hex(),
        "item_keys": row.item_keys,
        "item_tags": row.item_tags,
    }


def _row(told: dict[str, Any]) -> FanOutRow:
    row = FanOutRow(
        key=FanOutKey.from_json(told["key"]),
        instance_count=told["instance_count"],
        item_hashes=bytes.fromhex(told["item_hashes"]),
        item_keys=None if told["item_keys"] is None else tuple(told["item_keys"]),
        item_tags=None if told["item_tags"] is None else tuple(told["item_tags"]),
    )
    if not _is_counted(row):
        raise ValueError(f"not {row.instance_count} instances")
    return row


def _is_counted(row: FanOutRow) -> bool:
    """Whether it holds as many instances as it says; memory is set aside for that many."""
    lists = [one for one in (row.item_keys, row.item_tags) if one is not None]
    is_hashed = len(row.item_hashes) == ITEM_HASH_BYTES * row.instance_count
    is_seeded = not row.item_hashes and 0 <= row.instance_count <= MOST_INSTANCES
    return (is_hashed or is_seeded) and all(len(one) == row.instance_count for one in lists)


def _step_fields(step: Step) -> dict[str, Any]:
    return {
        "namespace": step.namespace,
        "node": step.node,
        "state": step.state,
        "step": step.step,
        "attempt_index": step.attempt_index,
        "lineage": [one.to_json() for one in step.lineage],
        "invocation_id": step.invocation_id,
        "schema_version": step.schema_version,
        "folds": [[fold.fan_out, fold.count, fold.hash] for fold in step.folds],
        **({"metadata": dict(step.metadata)} if step.metadata else {}),
    }


def _step(told: dict[str, Any]) -> Step:
    changed = {
        "namespace": tuple(told["namespace"]),
        "lineage": tuple(EnclosingInstance.from_json(one) for one in told["lineage"]),
        "folds": tuple(Fold(*fold) for fold in told["folds"]),
        "metadata": read_back(told.get("metadata", {})),
    }
    return Step(position=0, **{**told, **changed})
