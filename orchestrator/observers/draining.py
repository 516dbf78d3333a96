"""Waiting, inside a node, for what observers have not been told yet."""

from weakref import WeakValueDictionary

from orchestrator.context import current_lineage
from orchestrator.errors import CallerError
from orchestrator.observers.delivery import Delivery, DeliverySet, DrainSummary


class ObserverNotAvailableInWorker(CallerError):
    """An instance asked for observers, which are told by the orchestrator only after it."""

    category = "observer_not_available_in_worker"

    def __init__(self) -> None:
        super().__init__(
            "observers run where the run is orchestrated, and are told of an instance with its report; read them in a "
            "node outside the fan-out"
        )


_by_invocation: WeakValueDictionary[str, Delivery] = WeakValueDictionary()
_all = DeliverySet()


def know(invocation_id: str, delivery: Delivery) -> None:
    """Let `drain_events_for` find the delivery of an invocation of this process."""
    _by_invocation[invocation_id] = delivery
    _all.add(delivery)


def deliveries_here() -> list[Delivery]:
    """Those that the invocations of this loop still have something to tell by."""
    return [delivery for delivery in _all.here() if delivery.undelivered_count]


async def drain_events_for(invocation_id: str, timeout: float | None = None) -> DrainSummary:
    """Wait until observers were told of every event of that invocation up to now, at most `timeout` seconds.

    Events that come later are not waited for, and nothing is dropped when the time is over. An invocation that this
    process does not drive has none; those of one that another event loop drives are counted, and not waited for.

    Raises:
        ObserverNotAvailableInWorker: called inside a fan-out instance, whose events are told by the orchestrator later.
    """
    if current_lineage():
        raise ObserverNotAvailableInWorker
    delivery = _by_invocation.get(invocation_id)
    if delivery is None:
        return DrainSummary()
    if not delivery.is_here:
        return DrainSummary(delivery.undelivered_count)
    return await delivery.wait(timeout_seconds=timeout)
