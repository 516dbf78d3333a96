"""What a process needs to run instances."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.execution.frame import FanOuts
from orchestrator.instance.kept import Keep
from orchestrator.instance.output import OutputOptions
from orchestrator.observers.emitter import Emitter
from orchestrator.tracing.tracing import Tracing, Untraced

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a process needs to run instances, the same for all of them.

    `worker` is its name, as reports carry it. `find` gives the graph of a name and a fingerprint, or raises
    GraphNotFound. `fan_outs` runs the fan-outs that are nested in an instance; by default they run inline, here.
    `emitter` takes the events at once; without one they are collected and travel with the report.
    `tracing` opens the spans of what runs here, and `output` says how what it puts out is taken.
    `keep` stores what an instance tells while it runs.
    """

    worker: str
    find: Callable[[str, str], "Graph[Any]"]
    code_version: str | None = None
    fan_outs: FanOuts | None = None
    emitter: Emitter | None = None
    keep: Keep | None = None
    tracing: Tracing = field(default_factory=Untraced)
    output: OutputOptions = field(default_factory=OutputOptions)
