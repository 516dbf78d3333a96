"""Which metadata holds where: what is written in a place is seen after it, and by no instance or branch beside it."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any

from orchestrator.holding import Holding
from orchestrator.metadata import NOTHING, Gathered, Metadata, Value, as_attributes, checked, joined, latest
from orchestrator.tracing.current import current_span, spread


@dataclass(frozen=True, slots=True)
class Held:
    """What holds, and what of it was written since its instance or branch began, by itself or inside."""

    entries: Metadata
    written: Metadata = field(default_factory=lambda: NOTHING)


class Scope:
    """What holds in an invocation, an instance, a branch or an attempt; a write puts another value in its place.

    `base` is what held when the invocation or the instance began. Plain functions run in threads with a copy of the
    context, which has this very object.
    """

    def __init__(self, held: Held, base: Metadata) -> None:
        self.held = held
        self.base = base
        self._lock = threading.Lock()

    @property
    def written(self) -> Metadata:
        return self.held.written

    def write(self, added: Metadata) -> None:
        with self._lock:
            entries = joined(self.held.entries, added)
            self.held = Held(entries, latest(self.held.written, added))

    def note(self, written: Metadata) -> None:
        """Take note of what was written inside, by an instance or a branch: it does not hold here."""
        if written:
            with self._lock:
                self.held = Held(self.held.entries, latest(self.held.written, written))

    @property
    def changes(self) -> dict[str, Value]:
        """What holds that did not when the invocation or the instance began."""
        if self.held.entries is self.base:
            return {}
        return {name: value for name, value in self.held.entries.items() if self.base.get(name) != value}

    def go_on(self, changes: Metadata) -> None:
        """Have what held where an earlier invocation or delivery stopped."""
        self.held = Held(latest(self.base, changes), latest(self.held.written, changes))


_scope: ContextVar[Scope | None] = ContextVar("rollforward_metadata", default=None)


def get_invocation_metadata() -> Metadata:
    """What holds here: the caller's metadata and what was written since. Immutable, lists are tuples; empty outside."""
    scope = _scope.get()
    return NOTHING if scope is None else scope.held.entries


def set_invocation_metadata(**entries: Any) -> None:
    """Add metadata, which the nodes after this one, and all open spans around that are nobody else's, have from now on.

    Inside an instance or a branch it holds there only. What a failed attempt wrote holds no more, and stays on spans.
    Outside a run nothing keeps it.

    Args:
        entries: texts, finite numbers, booleans, or lists of one of these.

    Raises:
        ReservedMetadata: a name is taken.
        MetadataRefused: an entry is none, or there would be more than 64 of them or 8 KiB.
    """
    added = checked(entries)
    scope = _scope.get()
    if scope is not None:
        scope.write(added)
        spread(as_attributes(added), current_span())


def changed_metadata() -> dict[str, Value]:
    """What was written before this in the same invocation or instance, and holds."""
    scope = _scope.get()
    return {} if scope is None else scope.changes


def go_on_with(changes: Metadata) -> None:
    """Have what held where this stopped before; the spans around have it too, as when it was written."""
    scope = _scope.get()
    if scope is not None and changes:
        scope.go_on(changes)
        spread(as_attributes(changes), current_span())


def note_instances(written: Gathered) -> None:
    """Tell the spans around the fan-out node that this runs in what its instances wrote."""
    entries, scope = written.entries, _scope.get()
    if entries and scope is not None:
        scope.note(entries)
        spread(as_attributes(entries), current_span())


def scoped(entries: Metadata, *, base: Metadata | None = None) -> Holding[Scope]:
    """Begin with these entries; nothing that is written in here is seen outside."""
    return Holding(_scope, Scope(Held(entries), entries if base is None else base))


@contextmanager
def branching() -> Iterator[None]:
    """Begin with what holds here; nothing that is written inside holds outside."""
    outer = _scope.get()
    with scoped(get_invocation_metadata(), base=None if outer is None else outer.base) as scope:
        yield
    if outer is not None:
        outer.note(scope.written)


class Trying:
    """What is written in here holds in `outer` once this has succeeded; a failed attempt's never does."""

    __slots__ = ("_before", "_outer", "_scope")

    def __init__(self, outer: Scope) -> None:
        self._outer = outer
        self._scope = Scope(outer.held, outer.base)
        self._before: Token[Scope | None] | None = None

    def __enter__(self) -> None:
        self._before = _scope.set(self._scope)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._before is not None
        _scope.reset(self._before)
        if kind is None:
            self._outer.held = self._scope.held


def trying() -> AbstractContextManager[None]:
    """An attempt at something, in here; outside a run there is nothing to hold."""
    outer = _scope.get()
    return nullcontext() if outer is None else Trying(outer)
