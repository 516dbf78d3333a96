"""A logger for the code of an instance."""

import logging
from collections.abc import MutableMapping
from typing import Any

from orchestrator.capture.capture import INSTANCE_LOGGER
from orchestrator.context import current_attempt_index, current_context


class InstanceLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds to each record where it was logged; what the caller passes as `extra` wins."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        own = {**(self.extra or {}), "attempt": current_attempt_index()} if self.extra else {}
        return msg, {**kwargs, "extra": {**own, **(kwargs.get("extra") or {})}}


def instance_logger() -> InstanceLogger:
    """The logger of the instance that this code runs in, of Python's `logging`; a plain one outside any run.

    Its records have the fields run_id, invocation_id, correlation_id, node, index, item_key, delivery and attempt, and
    come to whoever wants the output of instances, see `LoggingObserver`.
    """
    return InstanceLogger(logging.getLogger(INSTANCE_LOGGER), _place())


def _place() -> dict[str, Any]:
    context = current_context()
    if context is None:
        return {}
    return {
        "run_id": context.run_id,
        "invocation_id": context.invocation_id,
        "correlation_id": context.correlation_id,
        "node": "/".join(context.path),
        "index": context.index,
        "item_key": context.item_key,
        "delivery": context.delivery,
    }
