"""What observes an invocation: observers, which are told of events, and tracing, which opens spans."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.observers.subscription import Observer, Subscription
from orchestrator.tracing.tracing import Tracing, Untraced


@dataclass(frozen=True, slots=True)
class Observation:
    """The observers of an invocation, beside those that are attached to its graph, and its tracing."""

    subscriptions: tuple[Subscription, ...] = ()
    tracing: Tracing = field(default_factory=Untraced)

    @classmethod
    def by(cls, observers: "Iterable[Observer | Tracing]") -> "Observation":
        """What these do; one that traces need not be told of events, and may be a child of another.

        Raises:
            ValueError: two of them trace, and a span has one parent.
        """
        given = tuple(observers)
        traces = tracings_of(given)
        if len(traces) > 1:
            raise ValueError("two observers trace the same invocation; give one of them both exporters")
        told = tuple(Subscription.of(one) for one in given if not isinstance(one, Tracing))
        return cls(told, *traces)

    def beside(self, other: "Observation") -> "Observation":
        """Both; where both trace, this one does."""
        tracing = other.tracing if isinstance(self.tracing, Untraced) else self.tracing
        return Observation((*other.subscriptions, *self.subscriptions), tracing)


def tracings_of(observers: Iterable[Any]) -> list[Tracing]:
    """Those of them that trace, and those of their children."""
    return [one for one in _with_children(observers) if isinstance(one, Tracing)]


def _with_children(observers: Iterable[Any]) -> Iterator[Any]:
    for observer in observers:
        yield observer
        yield from _with_children(getattr(observer, "children", ()))
