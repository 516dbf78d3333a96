"""Graphs from fixtures."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.compiled import CompiledGraph
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.node import BranchSpec
from orchestrator.graph.projection import DeclaredSameName
from orchestrator.graph.warning import CompileWarning
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.edge_kind import add_edges
from tests.conformance.implied import Implied
from tests.conformance.middleware_kind import middleware
from tests.conformance.migration_kind import migrations
from tests.conformance.node_body import Body
from tests.conformance.observed_middleware import around_branch, around_instance, around_node
from tests.conformance.state_class import state_class
from tests.conformance.world import World

LABEL = "conformance:"
INLINE = ("subgraph", "subgraph_with_idx")
NAMED = ("subgraphs", "inner_subgraphs")


class Building:
    """Builds the graph of one case and the graphs inside it."""

    def __init__(self, case: Section, world: World, label: str) -> None:
        self._case = case
        self._world = world
        self._label = label
        self._clock = _clock(case)
        self._subgraphs: dict[str, CompiledGraph[Any]] = {}
        self._sections = dict(self._named())
        self._implied = Implied(case.values)

    @property
    def subgraphs(self) -> Mapping[str, CompiledGraph[Any]]:
        return self._subgraphs

    def graph(self) -> CompiledGraph[Any]:
        """The case's own graph.

        Raises:
            CompileError: it does not compile.
        """
        given = self._case.take("initial_state") or {}
        for name in self._sections:
            self.subgraph(name)  # also those that only other cases of the file use
        return self._graph(self._case, None, label=self._label, given=given)

    def subgraph(self, name: str) -> CompiledGraph[Any]:
        if name not in self._subgraphs:
            if name not in self._sections:
                raise UnknownDirective(f"{self._case.path}: no subgraph {name}")
            section = self._sections[name]
            self._subgraphs[name] = self._graph(section, name, label=f"{self._label}#{name}", given={})
        return self._subgraphs[name]

    def _named(self) -> list[tuple[str, Section]]:
        inline = [self._case.section(key) for key in INLINE if key in self._case]
        named = [pair for key in NAMED for pair in self._case.sections(key)]
        return [(section.take("name", "inner"), section) for section in inline] + named

    def _graph(self, section: Section, name: str | None, *, label: str, given: Mapping[str, Any]) -> CompiledGraph[Any]:
        kind = "State" if name is None else f"State_{name}"
        state, implied = section.section("state"), self._implied.fields(name)
        builder: GraphBuilder[Any] = GraphBuilder(state_class(state, kind, given=given, implied=implied))
        kept = section.section("middleware") if "middleware" in section else Section({}, section.path)
        for one in middleware(kept.listed("per_graph"), self._world, clock=self._clock):
            builder.add_middleware(one)
        around = {node: kept.section("per_node").listed(node) for node in kept.section("per_node").keys}
        for node, spec in section.sections("nodes"):
            wrappers = [*around.get(node, []), *(spec.listed("middleware") if "middleware" in spec else [])]
            own = [*middleware(wrappers, self._world, clock=self._clock), *around_node(spec)]
            self._add(builder, node, spec, graph=name, wrappers=own)
        add_edges(builder, section.listed("edges"))
        if section.take("entry") is not None:
            builder.set_entry(section.take("entry"))
        if "migrations" in section:
            builder.with_state_migrations(*migrations(section.listed("migrations"), self._world))
        with warnings.catch_warnings():
            # They are judged as the graph has them, where a fixture asks for them.
            warnings.simplefilter("ignore", CompileWarning)
            return builder.compile(name=label)

    def _add(
        self, builder: GraphBuilder[Any], name: str, spec: Section, *, graph: str | None, wrappers: list[Any]
    ) -> None:
        if "fan_out" in spec:
            section = spec.section("fan_out")
            implied = self._implied.fan_out(graph, name, section.values)
            builder.add_fan_out_node(name, **self._fan_out(section), **implied, middleware=wrappers)
        elif "parallel_branches" in spec:
            section = spec.section("parallel_branches")
            branches = self._branches(section)
            options = {key: section.take(key) for key in ("error_policy", "errors_field") if key in section}
            builder.add_parallel_branches_node(name, branches=branches, middleware=wrappers, **options)
        elif "subgraph_call" in spec:
            call = spec.section("subgraph_call")
            called = call.take("subgraph")
            inputs = {field: field for field in self._implied.inputs(called)}
            builder.add_subgraph_node(
                name, self.subgraph(called), inputs=inputs, outputs=call.take("outputs"), middleware=wrappers
            )
        elif "subgraph" in spec:
            options = {key: spec.take(key) for key in ("inputs", "outputs") if key in spec}
            builder.add_subgraph_node(
                name, self.subgraph(spec.take("subgraph")), _projection(spec), middleware=wrappers, **options
            )
        else:
            builder.add_node(name, Body(spec, self._world), middleware=wrappers)

    def _fan_out(self, section: Section) -> dict[str, Any]:
        plain = (
            "items_field",
            "item_field",
            "collect_field",
            "target_field",
            "error_policy",
            "on_empty",
            "count_field",
            "errors_field",
            "inputs",
            "extra_outputs",
        )
        options = {key: section.take(key) for key in plain if key in section}
        for key in ("count", "concurrency"):
            if key in section:
                options[key] = _number(section.take(key), section.path)
        mode = section.take("concurrent_mode")
        if mode not in (None, "serial", "concurrent"):
            raise UnknownDirective(f"{section.path}.concurrent_mode: {mode}")
        if mode == "serial" or "abort_after_instance" in section:
            options["concurrency"] = 1
        section.take("abort_after_instance")
        options["subgraph"] = self.subgraph(section.take("subgraph", section.take("inner_subgraph")))
        around = section.listed("instance_middleware")
        options["instance_middleware"] = [
            *middleware(around, self._world, clock=self._clock),
            *around_instance(section, has_item_field="item_field" in section or "items_field" not in section),
        ]
        self._world.stops_early |= options.get("error_policy", "fail_fast") == "fail_fast"
        return options

    def _branches(self, section: Section) -> dict[str, BranchSpec]:
        if isinstance(section.take("branches"), list):
            return {name: BranchSpec(subgraph=self.subgraph(name)) for name in section.take("branches")}
        return {name: self._branch(branch) for name, branch in section.sections("branches")}

    def _branch(self, section: Section) -> BranchSpec:
        options = {key: section.take(key) for key in ("inputs", "outputs") if key in section}
        if "when" in section:
            field = section.section("when").take("field")
            options["when"] = lambda state: bool(getattr(state, field))
        if "call" in section:
            options["call"] = Body(section.section("call"), self._world)
        if "subgraph" in section:
            options["subgraph"] = self.subgraph(section.take("subgraph"))
        around = middleware(section.listed("middleware"), self._world, clock=self._clock)
        return BranchSpec(middleware=[*around, *around_branch(section)], **options)


def _projection(spec: Section) -> DeclaredSameName | None:
    if "projects_in" not in spec and "projects_out" not in spec:
        return None
    return DeclaredSameName(in_fields=spec.take("projects_in", ()), out_fields=spec.take("projects_out", ()))


def _number(spec: Any, path: str) -> Any:
    if not isinstance(spec, dict):
        return spec
    unknown = set(spec) - {"callable", "field", "chunk_size"}
    if unknown:
        raise UnknownDirective(f"{path}: {sorted(unknown)}")
    field = spec["field"]
    match spec["callable"]:
        case "state_field_read":
            return lambda state: getattr(state, field)
        case "queue_chunk":
            return lambda state: max(1, len(getattr(state, field)) // spec["chunk_size"])
    raise UnknownDirective(f"{path}: callable {spec['callable']}")


def _clock(case: Section) -> Callable[[], float] | None:
    if "clock_stub" not in case:
        return None
    stub = case.section("clock_stub")
    if stub.take("type") != "deterministic_monotonic":
        raise UnknownDirective(f"{stub.path}.type: {stub.take('type')}")
    step, now = stub.take("advance_ms_per_call") / 1000, [0.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    return clock
