"""What ties a log line to the run, the place in it and the span that it was written in."""

import logging
from collections.abc import MutableMapping
from typing import Any

from orchestrator.context import current_attempt_index, current_context
from orchestrator.observers.site import current_site
from orchestrator.tracing.current import current_span


def correlation() -> dict[str, Any]:
    """What is known of where this runs; empty outside a run.

    Returns:
        `run_id`, `invocation_id`, `correlation_id`; `node` (with those around it, as `outer/files/parse`),
        `branch_name`, `attempt`; in an instance `index`, `item_key`, `delivery`; where it is traced `trace_id` and
        `span_id`, in hexadecimal digits.
    """
    return {name: fact for name, fact in {**_of_run(), **_of_place(), **_of_span()}.items() if fact is not None}


class CorrelationFilter(logging.Filter):
    """Adds to every log record what is known of where it was made; what the caller gave stays.

    Give it to a handler: a logger's own filters do not see the records of the loggers below it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, fact in correlation().items():
            record.__dict__.setdefault(name, fact)
        return True


def add_correlation(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The same as a processor of structlog."""
    for name, fact in correlation().items():
        event.setdefault(name, fact)
    return event


def _of_run() -> dict[str, Any]:
    context = current_context()
    if context is None:
        return {}
    return {
        "run_id": context.run_id,
        "invocation_id": context.invocation_id,
        "correlation_id": context.correlation_id,
        "index": context.index,
        "item_key": context.item_key,
        "delivery": None if context.index is None else context.delivery,
    }


def _of_place() -> dict[str, Any]:
    site = current_site()
    if site is None:
        return {}
    branch = next((level.branch for level in reversed(site.frame.levels) if level.branch is not None), None)
    return {"node": "/".join(site.namespace), "branch_name": branch, "attempt": current_attempt_index()}


def _of_span() -> dict[str, Any]:
    trace_id, span_id = current_span().ids or (None, None)
    return {"trace_id": trace_id, "span_id": span_id}
