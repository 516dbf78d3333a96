"""What our spans are called, and what stands on them."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from orchestrator.graph.node import SubgraphNode
from orchestrator.metadata import as_attributes
from orchestrator.redaction import redacted
from orchestrator.scope import get_invocation_metadata

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame
    from orchestrator.observers.site import Site

PREFIX = "rollforward."
INVOCATION = f"{PREFIX}invocation"
SAVE = f"{PREFIX}checkpoint.save"
MIGRATION = f"{PREFIX}checkpoint.migrate"
METADATA = f"{PREFIX}user."
CONVENTIONS = "1"
"""Counts the changes of these names that a dashboard would notice."""
KEPT_NAMES = ("gen_ai.", "server.", "error.type")
"""What the conventions of OpenTelemetry name keeps its name."""


def named(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as attributes: with our prefix, without secrets, and without what is not known."""
    return {
        name if name.startswith(KEPT_NAMES) else PREFIX + name: _value(fact)
        for name, fact in facts.items()
        if fact is not None
    }


def metadata() -> Mapping[str, Any]:
    """What the caller and the code around here say of the invocation."""
    return as_attributes(get_invocation_metadata())


def of_invocation(frame: "Frame") -> dict[str, Any]:
    """What stands on the root of a trace."""
    return {
        "correlation_id": frame.correlation_id,
        "run_id": frame.run_id,
        "invocation_id": frame.invocation_id,
        "graph.name": frame.root.name,
        "graph.fingerprint": frame.root.fingerprint,
        "graph.entry_node": frame.root.entry,
        "graph.spec_version": CONVENTIONS,
        "implementation.name": "rollforward",
        "implementation.version": _version(),
    }


def of_node(site: "Site") -> dict[str, Any]:
    """What stands on an attempt at a node."""
    subgraph = {"subgraph.name": site.subject.graph.name} if isinstance(site.subject, SubgraphNode) else {}
    return {
        "correlation_id": site.frame.correlation_id,
        "node.name": site.namespace[-1],
        "node.namespace": list(site.namespace),
        "node.step": site.step if site.step >= 0 else None,
        "node.attempt_index": site.attempt_index,
        **_inside(site.frame),
        **subgraph,
    }


def of_branch(site: "Site", attempt_index: int) -> dict[str, Any]:
    """What stands on a branch; the attempt is the one at the node that dispatched it, or its own."""
    return {
        "correlation_id": site.frame.correlation_id,
        **_inside(site.frame),
        "node.attempt_index": attempt_index,
        "parallel_branches.parent_node_name": site.frame.levels[-1].node,
    }


def of_instance(site: "Site") -> dict[str, Any]:
    """What stands on one delivery of an instance."""
    return {
        "correlation_id": site.frame.correlation_id,
        **_inside(site.frame),
        "run_id": site.frame.run_id,
        "invocation_id": site.frame.invocation_id,
        "node.namespace": list(site.namespace),
        "fan_out.parent_node_name": site.frame.levels[-1].node,
    }


@cache
def _version() -> str:
    return version("rollforward")


def of_call(site: "Site | None") -> dict[str, Any]:
    """What stands on a call, beside what it says itself."""
    return {} if site is None else _inside(site.frame)


def _inside(frame: "Frame") -> dict[str, Any]:
    """Which instance and branch a place is inside of."""
    index = next((level.index for level in reversed(frame.levels) if level.index is not None), None)
    branch = next((level.branch for level in reversed(frame.levels) if level.branch is not None), None)
    return {"node.fan_out_index": index, "node.branch_name": branch}


def _value(fact: Any) -> Any:
    if isinstance(fact, str):
        return redacted(fact)
    return [_value(one) for one in fact] if isinstance(fact, list | tuple) else fact
