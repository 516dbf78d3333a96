"""A checked graph that can be run: what users hold."""

import asyncio
from collections.abc import Iterable
from typing import Any, Unpack

from orchestrator.execution.background import BackgroundHandle
from orchestrator.execution.entry import Invocation, begin
from orchestrator.execution.handle import RunHandle
from orchestrator.graph.graph import Graph, StateT
from orchestrator.observers.delivery import DrainSummary, drain
from orchestrator.observers.event import Phase
from orchestrator.observers.observation import tracings_of
from orchestrator.observers.subscription import Observer, RemoveHandle, Subscription
from orchestrator.tracing.tracing import Tracing


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

    def attach_observer(
        self, observer: Observer | Tracing, *, phases: Iterable[Phase | str] | None = None
    ) -> RemoveHandle:
        """Tell an observer of every later invocation of this graph, also where the graph runs inside another one.

        Args:
            observer: `async (event) -> None`, or what traces, which then traces invocations that nothing else does.
            phases: what it is told of; by default the start and the end of every attempt.

        Returns:
            What takes it off again.

        Raises:
            ValueError: no phase, or one that there is not.
        """
        attached: list[tuple[list[Any], Any]] = [(self.tracings, one) for one in tracings_of([observer])]
        if not isinstance(observer, Tracing):
            attached.append((self.subscriptions, Subscription.of(observer, phases)))
        for where, one in attached:
            where.append(one)
        return RemoveHandle(attached)

    async def drain(self, timeout: float | None = None) -> DrainSummary:
        """Wait until the observers of this graph's invocations were told everything, at most `timeout` seconds.

        These are the invocations that were begun in this event loop: each loop tells of its own, and is drained in
        itself before it ends. What is left when the time is over is dropped and counted; later invocations are not
        touched by it.
        """
        return await drain(self.deliveries.here(), timeout_seconds=timeout)

    def run(self, state: StateT | None = None, **how: Unpack[Invocation]) -> StateT:
        """`invoke`, for code without an event loop; observers are told everything before it returns."""
        return asyncio.run(self._invoke_and_drain(state, how))

    def submit(self, state: StateT | None = None, **how: Unpack[Invocation]) -> BackgroundHandle[StateT]:
        """`start`, for code without an event loop, in a thread of its own; `result` comes when observers are told."""
        return BackgroundHandle(lambda: self.start(state, **how))

    async def _invoke_and_drain(self, state: StateT | None, how: Invocation) -> StateT:
        try:
            return await self.invoke(state, **how)
        finally:
            await self.drain()
