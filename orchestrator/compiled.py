"""A checked graph that can be run: what users hold."""

import asyncio
from typing import Unpack

from orchestrator.execution.background import BackgroundHandle
from orchestrator.execution.entry import Invocation, begin
from orchestrator.execution.handle import RunHandle
from orchestrator.graph.graph import Graph, StateT


class CompiledGraph(Graph[StateT]):
    """A graph with the four verbs that run it: two asynchronous ones and their synchronous twins."""

    async def invoke(self, state: StateT | None = None, **how: Unpack[Invocation]) -> StateT:
        """Run the graph to its end and give the last state; see `Invocation` for `how`.

        Raises:
            GraphError: a step failed; its `recoverable_state` is the state before it, and the run can be resumed.
            CheckpointNotFound: `resume_invocation` names nothing that is kept.
            RunCancelled, Fenced: the run was cancelled, or another orchestrator owns it.
        """
        handle = await self.start(state, **how)
        return await handle.result()

    async def start(self, state: StateT | None = None, **how: Unpack[Invocation]) -> RunHandle[StateT]:
        """Begin a run in a task of this loop and give the handle of it."""
        return await begin(self, state, how)

    def run(self, state: StateT | None = None, **how: Unpack[Invocation]) -> StateT:
        """`invoke`, for code without an event loop."""
        return asyncio.run(self.invoke(state, **how))

    def submit(self, state: StateT | None = None, **how: Unpack[Invocation]) -> BackgroundHandle[StateT]:
        """`start`, for code without an event loop: the run goes on in a thread of its own."""
        return BackgroundHandle(lambda: self.start(state, **how))
