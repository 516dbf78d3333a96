"""State classes from a fixture's fields."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import create_model

from orchestrator import reducer as reducers
from orchestrator.state import State
from tests.conformance.document import Section, UnknownDirective

TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "string": str,
    "bool": bool,
    "any": Any,
    "list": list[Any],
    "dict": dict[str, Any],
    "error_entry": dict[str, Any],
}
EMPTY: dict[str, Any] = {"int": 0, "float": 0.0, "string": "", "bool": False, "any": None}


def state_class(
    section: Section, name: str, *, given: Mapping[str, Any] | None = None, implied: Mapping[str, Any] | None = None
) -> type[State]:
    """The class of a `state` section, with the implied fields; what only the initial state names may be anything."""
    fields: dict[str, Any] = {field: _field(spec) for field, spec in section.sections("fields")}
    fields |= implied or {}
    fields |= {field: (Any, None) for field in given or {} if field not in fields}
    model: Any = create_model(name, __base__=State, **fields)
    model.schema_version = str(section.take("schema_version", ""))
    made: type[State] = model
    return made


def _field(section: Section) -> tuple[Any, Any]:
    spelled = str(section.take("type")).replace(" ", "")
    kept = [_reducer(section.take(key), section.path) for key in ("reducer", "alt_reducer") if key in section]
    annotation: Any = type_of(spelled, section.path)
    for reducer in kept:
        annotation = Annotated[annotation, reducer]
    if section.take("required", default=False):
        return annotation, ...
    empty = [] if spelled.startswith("list") else {} if spelled.startswith("dict") else EMPTY.get(spelled)
    return annotation, section.take("default", empty)


def type_of(spelled: str, path: str) -> Any:
    """The type that a fixture spells as `list<int>`."""
    if spelled in TYPES:
        return TYPES[spelled]
    kind, _, inner = spelled.removesuffix(">").partition("<")
    make: Any = list
    if kind == "list":
        return make[type_of(inner, path)]
    if kind == "dict" and inner.startswith("string,"):
        make = dict
        return make[str, type_of(inner.removeprefix("string,"), path)]
    raise UnknownDirective(f"{path}.type: {spelled}")


def _reducer(spec: Any, path: str) -> Any:
    name, options = (spec, None) if isinstance(spec, str) else next(iter(spec.items()))
    found = getattr(reducers, name, None)
    if found is None:
        raise UnknownDirective(f"{path}.reducer: {name}")
    return found if options is None and found not in reducers.FACTORIES else found(**(options or {}))
