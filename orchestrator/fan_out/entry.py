"""What an instance keeps in the ledger while it runs, for the delivery after this one."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from orchestrator.report import Report

NESTED_REPORTED = "nested_reported"


@dataclass(frozen=True, slots=True)
class NestedReported:
    """A nested instance that has ended; `first_state` is the hash of what it began with, see `first_state_hash`.

    It is None where the record does not say it: the outer instance begins again with the item that it had.
    """

    first_state: str | None
    report: Report

    def to_json(self) -> bytes:
        report = self.report.to_json().decode()
        return json.dumps({"kind": NESTED_REPORTED, "first_state": self.first_state, "report": report}).encode()


def read_entries(entries: Sequence[bytes]) -> list[NestedReported]:
    """The entries that this version can read, in the order they were kept in; what the others say is done again."""
    return [entry for text in entries if (entry := _read(text)) is not None]


def first_state_hash(item: bytes, inputs: str) -> str:
    """What two instances have in common that begin with the same state, in 16 hex digits."""
    told = blake2b(item, digest_size=8)
    told.update(b"\0" + inputs.encode())
    return told.hexdigest()


def _read(text: bytes) -> NestedReported | None:
    # A worker of another version may have kept it, in the middle of an upgrade.
    with contextlib.suppress(KeyError, TypeError, ValueError):
        fields = json.loads(text)
        if fields["kind"] == NESTED_REPORTED:
            return NestedReported(fields["first_state"], Report.from_json(fields["report"]))
    return None
