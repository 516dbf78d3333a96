"""What callers and nodes say about a run beside its state: for traces, for logs and for their own code."""

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.errors import CallerError

Scalar = str | int | float | bool
Value = Scalar | tuple[str, ...] | tuple[int, ...] | tuple[float, ...] | tuple[bool, ...]
Metadata = Mapping[str, Value]

NOTHING: Metadata = MappingProxyType({})

MOST_ENTRIES = 64
MOST_BYTES = 8 * 1024
"""What all entries of one place may have together, as JSON."""

RESERVED_PREFIXES = ("rollforward.", "gen_ai.")
RESERVED_NAMES = frozenset(
    (
        "attempt",
        "attempt_index",
        "branch_name",
        "correlation_id",
        "delivery",
        "detached",
        "detached_from_invocation_id",
        "entry_node",
        "error_category",
        "fan_out",
        "fan_out_index",
        "finish_reason",
        "graph",
        "implementation_name",
        "implementation_version",
        "index",
        "invocation_id",
        "item_key",
        "lineage",
        "namespace",
        "node",
        "run_id",
        "span_id",
        "step",
        "system",
        "trace_id",
        "worker",
    )
)
"""What spans and log lines say already; metadata of such a name would be taken for it."""

_LARGEST = 2**63


class MetadataRefused(CallerError, ValueError):
    """An entry cannot be metadata, or there is too much of it."""

    category = "metadata_refused"


class ReservedMetadata(MetadataRefused):
    """A name that spans and logs have a meaning for already."""

    category = "metadata_reserved"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the metadata {name!r} would be taken for rollforward's own; use another name, which does not begin "
            f"with {' or '.join(RESERVED_PREFIXES)}"
        )


def checked(entries: Mapping[str, Any]) -> Metadata:
    """The entries as they are kept, immutable: lists become tuples.

    Raises:
        ReservedMetadata: a name is taken.
        MetadataRefused: a name is empty, a value is no text, number, boolean or list of one of these, or there are more
            than 64 entries or 8 KiB.
    """
    return _bounded({_checked_name(name): _checked_value(name, value) for name, value in entries.items()})


def read_back(entries: Mapping[str, Any]) -> dict[str, Value]:
    """Entries that were kept or sent as JSON; what is not as it was kept is left to whoever reads the record."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()}


def joined(held: Metadata, added: Metadata) -> Metadata:
    """What holds where more was written, of the same name in place of what was there.

    Raises:
        MetadataRefused: together they are too many.
    """
    return _bounded({**held, **added})


def latest(before: Metadata, after: Metadata) -> Metadata:
    """Both, of the same name the later one; where they do not fit, the earliest go."""
    both = {**{name: value for name, value in before.items() if name not in after}, **after}
    while not _fits(both):
        del both[next(iter(both))]
    return MappingProxyType(both)


class Gathered:
    """What instances wrote, by name the value of the one with the highest index, in whatever order they come.

    Where they wrote more than fits, those names stay that were written by the highest indexes.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, Value]] = {}

    def add(self, index: int, written: Metadata) -> None:
        if not written:
            return
        for name, value in written.items():
            if name not in self._latest or self._latest[name][0] <= index:
                self._latest[name] = (index, value)
        while not _fits(self.entries):
            del self._latest[min(self._latest, key=lambda name: (self._latest[name][0], name))]

    @property
    def entries(self) -> Metadata:
        return MappingProxyType({name: value for name, (_, value) in self._latest.items()})


def as_attributes(entries: Metadata) -> dict[str, Value]:
    """The entries as spans have them."""
    return {f"user.{name}": value for name, value in entries.items()}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise MetadataRefused(f"metadata cannot be named {name!r}; name it with printable characters")
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
        raise ReservedMetadata(name)
    return name


def _checked_value(name: str, value: Any) -> Value:
    if _is_scalar(value):
        scalar: Scalar = value
        return scalar
    is_list = isinstance(value, list | tuple) and all(map(_is_scalar, value))
    if not is_list or len({type(one) for one in value}) > 1:
        raise MetadataRefused(
            f"the metadata {name!r} is {type(value).__name__}; pass a text, a finite number, a boolean or a list of "
            "one of these"
        )
    return tuple(value)


def _is_scalar(value: Any) -> bool:
    match value:
        case bool() | str():
            return True
        case int():
            return -_LARGEST <= value < _LARGEST
        case float():
            return math.isfinite(value)
    return False


def _bounded(entries: dict[str, Value]) -> Metadata:
    if not _fits(entries):
        raise MetadataRefused(
            f"there are {len(entries)} entries of metadata with {_size_bytes(entries)} bytes; keep it to "
            f"{MOST_ENTRIES} and {MOST_BYTES}, and put what is larger into the state"
        )
    return MappingProxyType(entries)


def _fits(entries: Metadata) -> bool:
    return len(entries) <= MOST_ENTRIES and _size_bytes(entries) <= MOST_BYTES


def _size_bytes(entries: Metadata) -> int:
    return len(json.dumps(dict(entries)))
