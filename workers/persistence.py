"""Calls that are made again until the ledger answers."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import LedgerUnavailable

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 2.0

T = TypeVar("T")


def insist(call: Callable[[], T], *, unless: Callable[[], bool] = lambda: False) -> T | None:
    """Make a call until the ledger answers; None once `unless` says that the answer is not wanted any more."""
    wait = FIRST_WAIT_SECONDS
    while not unless():
        try:
            return call()
        except LedgerUnavailable as error:
            logger.warning("ledger away, asking again", extra={"error": str(error), "wait_seconds": wait})
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
    return None
