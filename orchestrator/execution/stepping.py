"""The lane of fan-outs whose instances the orchestrator steps itself, so that those nested in them are dispatched."""

from typing import TYPE_CHECKING, Any

from orchestrator.execution.frame import FanOuts
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.instance.kept import Keep, in_ledger
from orchestrator.instance.run import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.observers.emitter import Emitter

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

SLOTS = 1000
"""Instances stepped here only wait for those nested in them, so that many may be open at once."""


def stepping_lane(graph: "Graph[Any]", fan_outs: FanOuts, options: Options, *, emitter: Emitter, keep: Keep) -> Lane:
    """A lane of this process whose instances dispatch their nested fan-outs through `fan_outs`.

    What happens in them is told and kept at once, since nothing of it comes from elsewhere.
    """
    ledger = MemoryLedger(max_bytes=options.max_item_bytes)
    runtime = Runtime(
        worker=options.owner,
        find=lambda _name, _fingerprint: graph,
        code_version=options.code_version,
        fan_outs=fan_outs,
        emitter=emitter,
        keep=keep,
    )
    return Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime, slots=SLOTS))


def local_lane(graph: "Graph[Any]", options: Options, *, slots: int = 64) -> Lane:
    """A lane of this process for a whole run, without workers."""
    ledger = MemoryLedger(max_bytes=options.max_item_bytes)
    runtime = Runtime(
        worker=options.owner,
        find=lambda _name, _fingerprint: graph,
        code_version=options.code_version,
        keep=in_ledger(ledger.progress),
    )
    return Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime, slots=slots))
