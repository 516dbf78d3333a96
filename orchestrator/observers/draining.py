"""Waiting, inside a node, for what observers have not been told yet."""

from weakref import WeakValueDictionary

from orchestrator.context import current_lineage
from orchestrator.errors import CallerError
from orchestrator.observers.delivery import Delivery, DrainSummary


class ObserverNotAvailableInWorker(CallerError):
    """An instance asked for observers, which are told by the orchestrator only after it."""

    category = "observer_not_available_in_worker"

    def __init__(self) -> None:
        super().__init__(
            "observers run where the run is orchestrated, and are told of an instance with its report; read them in a "
            "node outside the fan-out"
        )


_deliveries: WeakValueDictionary[str, Delivery] = WeakValueDictionary()


def know(invocation_id: str, delivery: Delivery) -> None:
    """Let `drain_events_for` find the delivery of an invocation of this process."""
    _deliveries[invocation_id] = delivery


def deliveries_here() -> list[Delivery]:
    """Those that this thread's invocations still have something to tell by."""
    return [delivery for delivery in list(_deliveries.values()) if delivery.is_here and delivery.undelivered_count]


async def drain_events_for(invocation_id: str, timeout: float | None = None) -> DrainSummary:
    """Wait until observers were told of every event of that invocation up to now, at most `timeout` seconds.

    Events that come later are not waited for, and nothing is dropped when the time is over. An invocation that this
    process does not drive has none.

    Raises:
        ObserverNotAvailableInWorker: called inside a fan-out instance, whose events are told by the orchestrator later.
    """
    if current_lineage():
        raise ObserverNotAvailableInWorker
    delivery = _deliveries.get(invocation_id)
    return DrainSummary() if delivery is None else await delivery.wait(timeout_seconds=timeout)
