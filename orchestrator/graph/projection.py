"""What crosses the boundary between a graph and a subgraph that is one of its nodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from orchestrator.errors import CompileError
from orchestrator.state import State, complaints, refusal


class Projection(Protocol):
    """Carries state into a subgraph, and what came of it out again."""

    def project_in(self, outer: State, inner_class: type[State]) -> State:
        """The subgraph's first state.

        Raises:
            StateValidationError: the outer values do not fit, or a required field gets none.
        """

    def project_out(self, inner: State, outer_class: type[State]) -> dict[str, Any]:
        """The partial update of the outer state that the subgraph's last state comes to."""

    def carried_in(self) -> Mapping[str, str]:
        """Which subgraph fields are read from which outer fields."""

    def carried_out(self, outer_class: type[State], inner_class: type[State]) -> Mapping[str, str]:
        """Which outer fields get which subgraph fields."""

    def validate(self, outer_class: type[State], inner_class: type[State], *, node: str) -> None:
        """See that every field exists.

        Raises:
            CompileError: `mapping_references_undeclared_field`.
        """


class _Carrying:
    """A projection that is all in its two mappings."""

    def carried_in(self) -> Mapping[str, str]:
        return {}

    def carried_out(self, outer_class: type[State], inner_class: type[State]) -> Mapping[str, str]:
        return {name: name for name in outer_class.model_fields if name in inner_class.model_fields}

    def project_in(self, outer: State, inner_class: type[State]) -> State:
        return first_state(inner_class, {name: getattr(outer, source) for name, source in self.carried_in().items()})

    def project_out(self, inner: State, outer_class: type[State]) -> dict[str, Any]:
        carried = self.carried_out(outer_class, type(inner))
        return {target: getattr(inner, name) for target, name in carried.items()}

    def validate(self, outer_class: type[State], inner_class: type[State], *, node: str) -> None:
        carried_in, carried_out = self.carried_in(), self.carried_out(outer_class, inner_class)
        check_declared(outer_class, [*carried_in.values(), *carried_out], node=node)
        check_declared(inner_class, [*carried_in, *carried_out.values()], node=node)


@dataclass(frozen=True, slots=True)
class FieldNameMatching(_Carrying):
    """Nothing goes in; every subgraph field that the outer state has too comes out."""


@dataclass(frozen=True, slots=True)
class ExplicitMapping(_Carrying):
    """Carries what two mappings say.

    Args:
        inputs: subgraph field to outer field. What it does not name keeps its default.
        outputs: outer field to subgraph field. Without it, fields come out by name matching.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] | None = None

    def carried_in(self) -> Mapping[str, str]:
        return self.inputs

    def carried_out(self, outer_class: type[State], inner_class: type[State]) -> Mapping[str, str]:
        if self.outputs is None:
            return FieldNameMatching().carried_out(outer_class, inner_class)
        return self.outputs


@dataclass(frozen=True, slots=True)
class DeclaredSameName(_Carrying):
    """Carries the named fields, which both states have, and no other: an empty set carries nothing."""

    in_fields: Iterable[str] = ()
    out_fields: Iterable[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "in_fields", tuple(sorted(self.in_fields)))
        object.__setattr__(self, "out_fields", tuple(sorted(self.out_fields)))

    def carried_in(self) -> Mapping[str, str]:
        return {name: name for name in self.in_fields}

    def carried_out(self, _outer_class: type[State], _inner_class: type[State]) -> Mapping[str, str]:
        return {name: name for name in self.out_fields}


def first_state(inner_class: type[State], values: Mapping[str, Any]) -> State:
    """A subgraph's first state; fields without a value keep their default.

    Raises:
        StateValidationError: a value does not fit, or a required field has none.
    """
    try:
        return inner_class.model_validate(dict(values), by_alias=False, by_name=True)
    except ValidationError as error:
        raise refusal(inner_class, complaints(error), what="the subgraph's first state") from error


def check_declared(state_class: type[State], names: Iterable[str], *, node: str) -> None:
    """See that a state has fields of these names.

    Raises:
        CompileError: `mapping_references_undeclared_field`.
    """
    for name in names:
        if name not in state_class.model_fields:
            raise CompileError(
                "mapping_references_undeclared_field",
                f"node {node!r} names the field {name!r}, which {state_class.__name__} does not declare; it has "
                f"{', '.join(state_class.model_fields) or 'no fields'}",
                node=node,
            )
