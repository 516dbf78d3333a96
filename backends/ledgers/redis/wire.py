"""Items, reports and what instances tell, as Redis keeps them."""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from orchestrator.errors import SealBroken
from orchestrator.identity import Slot
from orchestrator.ledger.view import QueuedItem
from orchestrator.reading import read_json, refusing, sound
from orchestrator.report import Report
from orchestrator.seal import Seal

log = logging.getLogger(__name__)

LARGEST_NUMBER = 2**31 - 1
UNFIT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class QueuedFacts:
    """What a claim is given of a queued item."""

    key: str | None
    item: bytes
    progress: tuple[bytes, ...]


def flat_slots(slots: Iterable[Slot]) -> list[str | int]:
    """Slots as the scripts take them: fan-out, index and generation of each, one after the other."""
    return [part for slot in slots for part in (slot.fan_out, slot.index, slot.generation)]


def write_item(item: QueuedItem) -> bytes:
    """Key and progress on one line, the item after it."""
    progress = [entry.decode() for entry in item.progress]
    return json.dumps([item.key, *progress]).encode() + b"\n" + item.item


def read_item(text: bytes) -> QueuedFacts:
    """What `write_item` was given, but for the slot.

    Raises:
        ValueError: it is no queued item.
    """
    line, _, item = text.partition(b"\n")
    with refusing("a queued item"):
        key, *progress = read_json(line)
        return sound(QueuedFacts(key, item, tuple(entry.encode() for entry in progress)))


def write_report(run_id: str, report: Report, seal: Seal) -> bytes:
    """The seal of the report in this run, a space, its JSON."""
    body = report.to_json()
    return seal.sign(_in_run(run_id, body)).encode() + b" " + body


def read_report(run_id: str, text: bytes, seal: Seal, *, fan_out: str, index: int) -> Report:
    """Read a report back.

    Raises:
        SealBroken: it was not written for this slot of this run by one who has our secret.
        ValueError: it is no report, or none that every store can keep.
    """
    signature, _, body = text.partition(b" ")
    place = Slot(fan_out, index)
    if not seal.verify(_in_run(run_id, body), signature.decode("ascii", "replace")):
        raise SealBroken(f"the report of {place}")
    report = Report.from_json(body)
    if (report.slot.fan_out, report.slot.index) != (fan_out, index):
        raise SealBroken(f"the report of {place}, which speaks of {report.slot},")
    if not _can_be_kept(report):
        raise ValueError(f"the report of {place} holds what no store can keep")
    return report


def write_entry(run_id: str, slot: Slot, entry: bytes, seal: Seal) -> bytes:
    """The seal of what an instance tells, a space, the entry."""
    return seal.sign(_of_slot(run_id, slot, entry)).encode() + b" " + entry


def read_entries(run_id: str, slot: Slot, texts: Iterable[bytes], seal: Seal) -> tuple[bytes, ...]:
    """The entries that were written for this slot by one who has our secret; what else there is, is left out."""
    entries = []
    for text in texts:
        signature, _, entry = text.partition(b" ")
        if seal.verify(_of_slot(run_id, slot, entry), signature.decode("ascii", "replace")):
            entries.append(entry)
        else:
            log.error("progress refused", extra={"run_id": run_id, "index": slot.index})
    return tuple(entries)


def _can_be_kept(report: Report) -> bool:
    places = [(position.step, position.attempt_index) for position in report.positions]
    numbers = [report.slot.generation, report.delivery, report.attempts, *(fold.count for fold in report.folds)]
    names = [report.token, report.worker, report.invocation_id, report.code_version or ""]
    names += [name for fold in report.folds for name in (fold.fan_out, fold.hash)]
    is_counted = all(0 <= number <= LARGEST_NUMBER for number in (*numbers, *chain.from_iterable(places)))
    return is_counted and "\0" not in (report.partial or "") and not any(UNFIT.search(name) for name in names)


def _of_slot(run_id: str, slot: Slot, body: bytes) -> bytes:
    return _in_run(run_id, f"{slot.fan_out} {slot.index}\n".encode() + body)


def _in_run(run_id: str, body: bytes) -> bytes:
    # A report of another run must not be taken for one of this.
    return run_id.encode() + b"\n" + body
