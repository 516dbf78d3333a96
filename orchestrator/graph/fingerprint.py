"""What tells two versions of a graph apart: its shape, schemas, reducers and policies, not the code of its nodes."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.fields import FieldInfo

from orchestrator.graph.edge import Edge, End, StaticEdge
from orchestrator.graph.node import BranchSpec, FanOutNode, FunctionNode, Node, ParallelBranchesNode, SubgraphNode
from orchestrator.graph.origin import qualified_name
from orchestrator.reducer import Reducer
from orchestrator.state import State, annotation_of, reducers_of

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

WORDING = frozenset({"title", "description", "default", "examples"})
"""Parts of a JSON schema that say nothing about which values fit."""

NAMED = frozenset({"properties", "$defs"})
"""Parts of a JSON schema whose keys are names of the user's."""

# How fast, where and under which name instances run may change while a run is under way.
FAN_OUT_FACTS = (
    "collect_field",
    "target_field",
    "items_field",
    "item_field",
    "count",
    "error_policy",
    "on_empty",
    "count_field",
    "errors_field",
    "inputs",
    "extra_outputs",
    "instance_middleware",
)


def fingerprint_of(graph: "Graph[Any]") -> str:
    """16 hex digits; equal for equal graphs, in every process."""
    facts = {
        "state": _state(graph.state_class),
        "entry": graph.entry,
        "nodes": {name: _node(node, graph.state_class) for name, node in graph.nodes.items()},
        "edges": {name: _edge(edge) for name, edge in graph.edges.items()},
        "middleware": _plain(graph.middleware),
    }
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _state(state_class: type[State]) -> dict[str, Any]:
    reducers = reducers_of(state_class)
    fields = {name: [_schema(field), _reducer(reducers[name])] for name, field in state_class.model_fields.items()}
    return {"version": state_class.schema_version, "fields": fields}


def _schema(field: FieldInfo) -> Any:
    try:
        return _without_wording(TypeAdapter(annotation_of(field)).json_schema())
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return repr(field.annotation)  # a type of the user's own that no JSON schema describes


def _without_wording(schema: Any, *, names: bool = False) -> Any:
    if isinstance(schema, list):
        return [_without_wording(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_wording(part, names=not names and key in NAMED)
        for key, part in schema.items()
        if names or key not in WORDING
    }


def _reducer(reducer: Reducer) -> Any:
    return [reducer.name, _plain(reducer.configuration)]


def _edge(edge: Edge) -> Any:
    if isinstance(edge, StaticEdge):
        return {"end": True} if isinstance(edge.target, End) else {"to": edge.target}
    return {"choose": qualified_name(edge.choose)}


def _node(node: Node, outer_class: type[State]) -> dict[str, Any]:
    facts: dict[str, Any]
    match node:
        case FunctionNode():
            facts = {"function": qualified_name(node.function)}
        case SubgraphNode():
            facts = {"subgraph": node.graph.fingerprint, "projection": _projection(node, outer_class)}
        case FanOutNode():
            named = {name: _plain(getattr(node, name)) for name in FAN_OUT_FACTS}
            facts = {"fan_out": node.subgraph.fingerprint, **named}
        case ParallelBranchesNode():
            branches = [[name, _branch(branch)] for name, branch in node.branches.items()]
            facts = {"branches": branches, "error_policy": node.error_policy, "errors_field": node.errors_field}
    return {**facts, "middleware": _plain(node.middleware)}


def _branch(branch: BranchSpec) -> dict[str, Any]:
    named = {name: _plain(getattr(branch, name)) for name in ("call", "when", "inputs", "outputs", "middleware")}
    return {"subgraph": None if branch.subgraph is None else branch.subgraph.fingerprint, **named}


def _projection(node: SubgraphNode, outer_class: type[State]) -> Any:
    carried_out = node.projection.carried_out(outer_class, node.graph.state_class)
    return [qualified_name(node.projection), _plain(node.projection.carried_in()), _plain(carried_out)]


def _plain(value: Any) -> Any:
    """A value as JSON; what JSON cannot say is named after where it comes from."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_plain(part), sort_keys=True) for part in value)
    return qualified_name(value)
