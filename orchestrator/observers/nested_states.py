"""The instances nested in those of a fan-out, as far as they are known to have begun and not to have ended."""

from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.observers.emitter import Emitter, Path
from orchestrator.observers.event import InstanceEvent, InstanceState

OPEN = frozenset({InstanceState.QUEUED, InstanceState.RUNNING, InstanceState.RETRYING})

Place = tuple[tuple[str, ...], tuple[int | None, ...], tuple[str | None, ...]]


class NestedStates:
    """Tells observers of the states of nested instances; those that their outer one leaves behind are cancelled."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._open: dict[int, dict[Place, tuple[InstanceEvent, Path]]] = {}

    def told(self, outer: int, event: InstanceEvent, path: Path) -> None:
        """One inside the instance of that index has come to a state."""
        place = (event.namespace, event.fan_out_index_chain, event.branch_name_chain)
        if event.state in OPEN:
            self._open.setdefault(outer, {})[place] = (event, path)
        else:
            self._open.get(outer, {}).pop(place, None)
        self._emitter.emit(event, path)

    def left_by(self, outer: int) -> None:
        """The instance of that index has ended, and nothing more comes of those in it."""
        for event, path in self._open.pop(outer, {}).values():
            self._emitter.emit(replace(event, state=InstanceState.CANCELLED, at=datetime.now(UTC), error=None), path)
