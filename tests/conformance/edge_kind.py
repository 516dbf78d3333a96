"""The edges that fixtures have."""

from collections.abc import Callable
from typing import Any

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from tests.conformance.document import Section, UnknownDirective


def add_edges(builder: GraphBuilder[Any], edges: list[Section]) -> None:
    """Add them; those of one node that begin with a `when` are tried in turn."""
    whens: dict[str, list[Section]] = {}
    for edge in edges:
        if edge.take("from") in whens or "when" in edge:
            whens.setdefault(edge.take("from"), []).append(edge)
        else:
            _add_one(builder, edge)
    for source, choices in whens.items():
        builder.add_conditional_edge(source, _first_that_holds(choices))


def _first_that_holds(edges: list[Section]) -> Callable[[Any], Any]:
    *conditional, otherwise = edges
    if "when" in otherwise or any("when" not in edge for edge in conditional):
        raise UnknownDirective(f"{otherwise.path}: the last of such edges, and no other, has no `when`")
    chosen = [(_when(edge.section("when")), _target(edge.take("to"))) for edge in conditional]
    last = _target(otherwise.take("to"))
    return lambda state: next((target for holds, target in chosen if holds(state)), last)


def _when(section: Section) -> Callable[[Any], bool]:
    field, bound = section.take("field"), section.take("gt")
    return lambda state: bool(getattr(state, field) > bound)


def _add_one(builder: GraphBuilder[Any], edge: Section) -> None:
    source, target = edge.take("from"), edge.take("to")
    if "condition" not in edge:
        builder.add_edge(source, _target(target))
        return
    builder.add_conditional_edge(source, _choice(edge.section("condition")))


def _target(name: Any) -> Any:
    return END if name == "END" else name


def _choice(condition: Section) -> Callable[[Any], Any]:
    if "callable" in condition:
        return _named_choice(condition.take("callable"), condition)
    field, wanted = condition.take("if_field"), condition.take("equals")
    then, otherwise = _target(condition.take("then")), _target(condition.take("else"))
    return lambda state: then if getattr(state, field) == wanted else otherwise


def _named_choice(kind: str, condition: Section) -> Callable[[Any], Any]:
    if kind == "state_field_read":
        field = condition.take("field")
        return lambda state: _target(getattr(state, field))
    if kind == "edge_raises":
        message = condition.take("message")

        def broken(_state: Any) -> Any:
            raise RuntimeError(message)

        return broken
    raise UnknownDirective(f"{condition.path}.callable: {kind}")
