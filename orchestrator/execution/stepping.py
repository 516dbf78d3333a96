"""The lane of fan-outs whose instances the orchestrator steps itself, so that those nested in them are dispatched."""

from typing import TYPE_CHECKING, Any

from orchestrator.execution.frame import Frame
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.instance.kept import Keep, in_ledger
from orchestrator.instance.output import OutputOptions
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.tracing.tracing import Tracing, Untraced

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

SLOTS = 1000
"""Instances stepped here only wait for those nested in them, so that many may be open at once."""


def stepping_lane(frame: Frame, options: Options, *, keep: Keep) -> Lane:
    """A lane of this process whose instances dispatch their nested fan-outs as the run with that frame does.

    What happens in them is told and kept at once, since nothing of it comes from elsewhere.
    """
    ledger = MemoryLedger(max_bytes=options.max_item_bytes)
    runtime = Runtime(
        worker=options.owner,
        find=lambda _name, _fingerprint: frame.root,
        code_version=options.code_version,
        fan_outs=frame.fan_outs,
        emitter=frame.emitter,
        tracing=frame.tracing,
        output=OutputOptions(capture=options.capture),
        keep=keep,
    )
    return Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime, slots=SLOTS))


def local_lane(graph: "Graph[Any]", options: Options, *, slots: int = 64, tracing: Tracing | None = None) -> Lane:
    """A lane of this process for a whole run, without workers."""
    ledger = MemoryLedger(max_bytes=options.max_item_bytes)
    runtime = Runtime(
        worker=options.owner,
        find=lambda _name, _fingerprint: graph,
        code_version=options.code_version,
        keep=in_ledger(ledger.progress),
        tracing=tracing or Untraced(),
        output=OutputOptions(capture=options.capture),
    )
    return Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime, slots=slots))
