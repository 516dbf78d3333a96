"""Keeps the clients that users have instrumented from making spans of what we do for ourselves."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation


def _made() -> Context:
    """A context that holds nothing but that; made once, since what the library offers makes one for every call."""
    token = attach(Context())
    try:
        with suppress_instrumentation():
            return get_current()
    finally:
        detach(token)


_UNTRACED = _made()


@contextmanager
def untraced() -> Iterator[None]:
    """Make no span in here."""
    token = attach(_UNTRACED)
    try:
        yield
    finally:
        detach(token)


def untrace_thread() -> None:
    """Make no span in this thread from now on."""
    attach(_UNTRACED)
