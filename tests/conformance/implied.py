"""The fields that fixtures use and do not declare: a state of theirs may leave out whatever is not asserted."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from orchestrator.reducer import append

Fields = dict[str, Any]

ITEM = "item"
"""Where an instance finds its item, where its fan-out does not say."""

ANYTHING: Any = (Any, None)
ITEMS: Any = (list[Any], [])
COLLECTED: Any = (Annotated[list[Any], append], [])

WRITTEN = ("capture_invocation_metadata_into", "then_assert_bucket_absent_into")


class Implied:
    """What the graphs of a case use beyond their declarations."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        self._graphs: dict[str | None, Mapping[str, Any]] = {None: case}
        for key in ("subgraphs", "inner_subgraphs"):
            self._graphs |= case.get(key) or {}
        self._given = case.get("initial_state") or {}
        self._of_inner: dict[str | None, Fields] = {}
        for graph in self._graphs.values():
            self._note_inner(graph)

    def fields(self, name: str | None) -> Fields:
        """Those of one graph, by its name; None is the outermost."""
        if name not in self._graphs:
            return {}
        graph, found = self._graphs[name], dict(self._of_inner.get(name, {}))
        declared = _declared(graph)
        for node, spec in _nodes(graph):
            found |= dict.fromkeys(_written(spec), ANYTHING)
            if "fan_out" in spec:
                found |= self._of_fan_out(node, spec["fan_out"], declared)
            if "subgraph_call" in spec:
                found |= dict.fromkeys(self.inputs(spec["subgraph_call"]["subgraph"]), ITEMS)
        undeclared = {field: kind for field, kind in found.items() if field not in declared}
        return undeclared | dict.fromkeys(_loose(graph), ANYTHING)

    def fan_out(self, graph: str | None, node: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The options that a fan-out leaves out; what its instances give goes where their names meet."""
        if "collect_field" in spec:
            return {}
        inner = spec.get("inner_subgraph", spec.get("subgraph"))
        outer = _declared(self._graphs.get(graph, {}))
        shared = [name for name in (*self.fields(inner), *_declared(self._graphs[inner])) if name in outer]
        collected = shared[0] if shared else ITEM
        target = collected if shared else f"collected_by_{node}"
        return {"item_field": ITEM, "collect_field": collected, "target_field": target}

    def inputs(self, name: str) -> list[str]:
        """The items that a called subgraph finds in the graph around it, under the same name."""
        graph = self._graphs[name]
        wanted = [spec["fan_out"]["items_field"] for _, spec in _nodes(graph) if "fan_out" in spec]
        return [field for field in wanted if field not in _declared(graph)]

    def _of_fan_out(self, node: str, spec: Mapping[str, Any], declared: Mapping[str, Any]) -> Fields:
        found: Fields = {}
        if spec.get("items_field") not in (None, *declared):
            found[spec["items_field"]] = ITEMS
        if "collect_field" not in spec:
            found[f"collected_by_{node}"] = COLLECTED
        return found

    def _note_inner(self, graph: Mapping[str, Any]) -> None:
        for _, spec in _nodes(graph):
            if "fan_out" in spec and "item_field" not in spec["fan_out"]:
                self._of_inner.setdefault(spec["fan_out"].get("inner_subgraph"), {})[ITEM] = ANYTHING


def _loose(graph: Mapping[str, Any]) -> list[str]:
    """The fields that take from a called subgraph what is of another type than they say."""
    calls = [spec["subgraph_call"] for _, spec in _nodes(graph) if "subgraph_call" in spec]
    return [target for call in calls for target in call.get("outputs") or {}]


def _nodes(graph: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, spec in (graph.get("nodes") or {}).items():
        if isinstance(spec, Mapping):
            yield name, spec


def _declared(graph: Mapping[str, Any]) -> Mapping[str, Any]:
    return (graph.get("state") or {}).get("fields") or {}


def _written(spec: Mapping[str, Any]) -> list[str]:
    found = [spec[key] for key in WRITTEN if key in spec]
    found += [one[key] for one in spec.get("per_attempt_behavior", ()) for key in WRITTEN if key in one]
    for key, field in (("calls_llm", "stores_response_in"), ("capture_queryable_observer_read_into", "state_field")):
        if key in spec and field in spec[key]:
            found.append(spec[key][field])
    return found
