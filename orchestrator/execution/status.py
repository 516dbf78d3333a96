"""How far a run is, as its owner sees it."""

from dataclasses import dataclass

from orchestrator.checkpoint.row import RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutCount:
    """How far one fan-out is; `outstanding` are dispatched and not recorded yet."""

    path: str
    expected: int
    recorded: int
    failed: int
    outstanding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; `health` says in a sentence what is wrong."""

    status: RunStatus
    health: str | None
    fan_outs: tuple[FanOutCount, ...]
