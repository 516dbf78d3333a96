"""How many instances may be outstanding at once."""

from orchestrator.execution.executor import Capacity
from orchestrator.fan_out.plan import Concurrency

SMALLEST_WINDOW = 64
"""Enough that the workers never wait for a commit, however few they are."""


def window(concurrency: Concurrency, capacity: Capacity) -> int:
    """The bound on dispatched instances that are not recorded yet."""
    ready = max(2 * capacity.slots, SMALLEST_WINDOW)
    if concurrency is None:
        return ready
    if concurrency == "auto":
        return max(2 * capacity.slots, 1)
    return min(concurrency, ready)
