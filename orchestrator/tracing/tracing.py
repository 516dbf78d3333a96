"""Tracing: spans are opened where the work is, by the process that does it, and are current there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orchestrator.tracing.span import NO_SPAN, Carrier, Span

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame
    from orchestrator.observers.site import Site


@runtime_checkable
class Tracing(Protocol):
    """Opens spans. One object serves any number of invocations at once; none of its methods raises."""

    def invocation(self, frame: "Frame") -> Span:
        """The root of one invocation's trace."""

    def node(self, site: "Site", parent: Span) -> Span:
        """One attempt at a node."""

    def branch(self, site: "Site", parent: Span) -> Span:
        """One branch of parallel branches: a whole one with its middleware, or one attempt at a function."""

    def instance(self, site: "Site", carrier: Carrier, facts: Mapping[str, Any]) -> Span:
        """One delivery of an instance, under the fan-out node's span that the carrier comes from."""

    def call(self, name: str, facts: Mapping[str, Any], parent: Span) -> Span:
        """A call of a model or another service; `facts` whose names begin with `gen_ai.` keep these names."""


class Untraced:
    """The tracing where nobody wants any."""

    def invocation(self, _frame: "Frame") -> Span:
        return NO_SPAN

    def node(self, _site: "Site", _parent: Span) -> Span:
        return NO_SPAN

    def branch(self, _site: "Site", _parent: Span) -> Span:
        return NO_SPAN

    def instance(self, _site: "Site", _carrier: Carrier, _facts: Mapping[str, Any]) -> Span:
        return NO_SPAN

    def call(self, _name: str, _facts: Mapping[str, Any], _parent: Span) -> Span:
        return NO_SPAN
