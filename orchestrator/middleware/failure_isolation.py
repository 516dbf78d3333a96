"""Going on with less where something failed."""

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from orchestrator.errors import Fenced, LedgerLost, OperatorError, RunCancelled
from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link
from orchestrator.middleware.chain import NextCall, Partial
from orchestrator.observers.emitting import emit_failure_isolated

DegradedUpdate = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
"""What is returned instead: a partial update, or a function of the state that the call began with."""

Predicate = Callable[[Exception], bool]
OnCaught = Callable[[Exception], Awaitable[None] | None]

NEVER_CAUGHT = (OperatorError, Fenced, RunCancelled, LedgerLost)
"""What is no failure of the node: the run stops or waits, and goes on later."""


class FailureIsolationMiddleware:
    """Returns a degraded update where the rest of the chain failed, and tells observers so.

    Around an instance or a branch the update has the fields of its subgraph. A cancellation is never caught.

    Args:
        degraded_update: what is returned instead.
        event_name: what the event is called.
        catch: the categories to catch, as `classify_cause_chain` derives them; by default any failure.
        predicate: which exceptions to catch, beside `catch`.
        on_caught: told of the exception before the update is returned; may be async.
    """

    def __init__(
        self,
        degraded_update: DegradedUpdate,
        *,
        event_name: str,
        catch: Collection[str] | None = None,
        predicate: Predicate | None = None,
        on_caught: OnCaught | None = None,
    ) -> None:
        self.degraded_update = degraded_update
        self.event_name = event_name
        self._catch = None if catch is None else frozenset(catch)
        self._predicate = predicate
        self._on_caught = on_caught

    async def __call__(self, state: Any, call_next: NextCall) -> Partial:
        try:
            return await call_next(state)
        except NEVER_CAUGHT:
            raise
        except Exception as error:
            if not self._is_caught(error):
                raise
            return await self._degraded(state, error)

    def _is_caught(self, error: Exception) -> bool:
        if self._catch is not None and derived_link(classify_cause_chain(error)).category not in self._catch:
            return False
        return self._predicate is None or self._predicate(error)

    async def _degraded(self, state: Any, error: Exception) -> Partial:
        update = self.degraded_update(state) if callable(self.degraded_update) else self.degraded_update
        if self._on_caught is not None:
            told = self._on_caught(error)
            if inspect.isawaitable(told):
                await told
        emit_failure_isolated(self.event_name, pre_state=state, post_state=update, error=error)
        return update
