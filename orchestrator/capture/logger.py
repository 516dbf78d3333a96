"""A logger for the code of an instance."""

import logging
from collections.abc import MutableMapping
from typing import Any

from orchestrator.capture.capture import INSTANCE_LOGGER
from orchestrator.correlation import correlation

_FACTS = ("run_id", "invocation_id", "correlation_id", "node", "index", "item_key", "delivery", "attempt")


class InstanceLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds to each record where it was logged; what the caller passes as `extra` wins."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(self.extra or {}), **correlation(), **(kwargs.get("extra") or {})}}


def instance_logger() -> InstanceLogger:
    """The logger of the instance that this code runs in, of Python's `logging`; a plain one outside any run.

    Its records have the fields run_id, invocation_id, correlation_id, node (as `outer/files/parse`), index, item_key,
    delivery and attempt, and come to whoever wants the output of instances, see `LoggingObserver`.
    """
    known = correlation()
    return InstanceLogger(logging.getLogger(INSTANCE_LOGGER), {**dict.fromkeys(_FACTS), **known} if known else {})
