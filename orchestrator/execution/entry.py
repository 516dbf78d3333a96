"""How a compiled graph is run from Python, where nobody has put an orchestrator together."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from typing_extensions import TypeVar

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.execution.handle import RunHandle
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from orchestrator.observers.observation import Observation
from orchestrator.observers.subscription import Observer
from orchestrator.state import State
from orchestrator.tracing.tracing import Tracing

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

StateT = TypeVar("StateT", bound=State, default=State)


class Invocation(TypedDict, total=False):
    """How a graph is invoked.

    `lane` is where instances run: this process unless given. `checkpointer` overrides the graph's own; without either,
    the run is kept in memory. `invocation_id` becomes the run's id. `observers` are told of this invocation only, each
    after those of the graph; one of them may trace. `metadata` is what the caller says about the run, for traces and
    the graph's own code. `resume_invocation` is the id of a run, or of any invocation of it, to go on with; the first
    state, the correlation id and the metadata are then the record's.
    """

    lane: Lane
    checkpointer: CheckpointStore
    options: Options
    correlation_id: str
    invocation_id: str
    metadata: Mapping[str, Any]
    resume_invocation: str
    accept_code: bool
    observers: Sequence[Observer | Tracing]


async def begin(graph: "Graph[StateT]", state: StateT | None, how: Invocation) -> RunHandle[StateT]:
    """Submit a run, or find the one to go on with, and drive it in a task of this loop."""
    options = how.get("options") or Options(owner=f"process-{os.getpid()}")
    store = how.get("checkpointer") or graph.checkpointer or MemoryStore()
    observation = Observation.by(how.get("observers", ())).beside(Observation(tracing=graph.tracing))
    lane = how.get("lane") or local_lane(graph, options, tracing=observation.tracing)
    orchestrator = Orchestrator(store, lane=lane, options=options)
    run_id = how.get("resume_invocation")
    if run_id is None:
        first = graph.state_class() if state is None else state
        run = await orchestrator.submit(
            graph,
            first,
            run_id=how.get("invocation_id"),
            correlation_id=how.get("correlation_id"),
            metadata=how.get("metadata"),
        )
        run_id = run.run_id
    return await orchestrator.start(run_id, graph, accept_code=how.get("accept_code", False), observation=observation)
