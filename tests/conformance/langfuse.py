"""The shapes that Langfuse would show, read from the spans of a case.

The product exports to no Langfuse. What fixtures say about it holds for the spans that would be sent there: a trace is
an invocation's span, an observation any other one, and its metadata are the caller's entries on that span with the name
of its branch. Only the derivation of a trace's id is this runner's own.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tests.conformance.document import UnknownDirective
from tests.conformance.expectation import Check, same
from tests.conformance.running import Played, Run
from tests.conformance.span_forest import LLM, Tree


def trace_id(invocation_id: str) -> str:
    """A UUID without its dashes, or what is derived from any other id."""
    try:
        return uuid.UUID(invocation_id).hex
    except ValueError:
        return hashlib.sha256(invocation_id.encode()).hexdigest()[:32]


def trace_metadata(root: Tree) -> dict[str, Any]:
    """The caller's entries; an id that cannot be the trace's stands among them."""
    invocation_id = root.of("invocation_id")
    is_uuid = trace_id(invocation_id) == invocation_id.replace("-", "").lower()
    return {**root.user, **({} if is_uuid else {"invocation_id": invocation_id})}


def observation_metadata(tree: Tree) -> dict[str, Any]:
    return {**tree.user, **({} if tree.branch is None else {"branch_name": tree.branch})}


def _langfuse_trace(_played: Played, run: Run, expected: Mapping[str, Any]) -> None:
    (root,) = run.forest.roots
    for key, value in expected.items():
        match key:
            case "id":
                _trace_id(trace_id(root.of("invocation_id")), value)
            case "metadata":
                same(trace_metadata(root), value, "the metadata of the trace")
            case "observations":
                _observations(root.children, value, "the trace")
            case _:
                raise UnknownDirective(f"langfuse_trace.{key}")


def _trace_id(actual: str, expected: str) -> None:
    if expected == "<uuid-hex>":
        assert uuid.UUID(actual).hex == actual, f"{actual} is no UUID"
    else:
        same(actual, expected, "the id of the trace")


def _observations(trees: Sequence[Tree], expected: Sequence[Mapping[str, Any]], what: str) -> None:
    same(len(trees), len(expected), f"the number of observations in {what}")
    for place, (tree, want) in enumerate(zip(trees, expected, strict=True)):
        _observation(tree, want, f"{what}[{place}]")


def _observation(tree: Tree, expected: Mapping[str, Any], what: str) -> None:
    for key, value in expected.items():
        match key:
            case "type":
                same("generation" if tree.name == LLM else "span", value, f"the type of {what}")
            case "name":
                same(tree.name, value, f"the name of {what}")
            case "metadata":
                same(observation_metadata(tree), value, f"the metadata of {what}")
            case "children":
                _observations(tree.children, value, what)
            case _:
                raise UnknownDirective(f"{what}.{key}")


OF_LANGFUSE: dict[str, Check] = {
    "langfuse_trace": _langfuse_trace,
    "no_langfuse_observations_emitted": lambda _p, run, value: same(not run.forest.all, value, "no observations"),
}
