"""How wrappers around a node are put together."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Partial = Mapping[str, Any]
"""A partial update: some of the state's fields with what a node gives for them."""

NextCall = Callable[[Any], Awaitable[Partial]]
"""The rest of a chain: takes the state, gives the partial update."""

Middleware = Callable[[Any, NextCall], Awaitable[Partial]]
"""A wrapper: `async (state, next) -> partial`. It may call `next` any number of times, or not at all."""


def compose(middlewares: Sequence[Middleware], innermost: NextCall) -> NextCall:
    """Wrap `innermost` so that the first middleware is the outermost."""
    call = innermost
    for middleware in reversed(middlewares):
        call = _wrapped(middleware, call)
    return call


def _wrapped(middleware: Middleware, inner: NextCall) -> NextCall:
    async def call(state: Any) -> Partial:
        return await middleware(state, inner)

    return call
