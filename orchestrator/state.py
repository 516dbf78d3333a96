"""The typed state of a graph."""

from functools import cache
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from orchestrator.errors import CompileError, StateValidationError
from orchestrator.reducer import FACTORIES, Reducer, last_write_wins

TOLD = 3
"""How many refused values an error's sentence spells out."""

Complaint = tuple[tuple[int | str, ...], str]
"""Where a value does not fit, and why."""


class State(BaseModel):
    """The state of a graph: a frozen model; nodes give partial updates of it.

    A field's reducer stands in its annotation: `log: Annotated[list[str], append]`. Without one the last write wins.
    `schema_version` is kept with every checkpoint.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
    )

    schema_version: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **given: Any) -> None:
        super().__pydantic_init_subclass__(**given)
        if cls.model_config.get("extra") == "allow":
            raise TypeError(
                f"{cls.__name__} allows fields that it does not declare; declare them, or one dict for them"
            )


@cache
def reducers_of(state_class: type[State]) -> dict[str, Reducer]:
    """The reducer of every field.

    Raises:
        CompileError: `conflicting_reducers`, or `reducer_configuration_invalid`.
    """
    state_class.model_rebuild()
    return {
        name: _reducer(f"field {name!r} of {state_class.__name__}", field.annotation, field.metadata)
        for name, field in state_class.model_fields.items()
    }


def annotation_of(field: FieldInfo) -> Any:
    """A field's type with its constraints, and without its default and its aliases."""
    annotation = field.rebuild_annotation()
    if field.discriminator is None:
        return annotation
    return annotated(annotation, (Field(discriminator=field.discriminator),))


def annotated(annotation: Any, metadata: tuple[Any, ...]) -> Any:
    """A type with marks, where both are known only when the program runs."""
    form: Any = Annotated
    return form[(annotation, *metadata)]


def complaints(error: ValidationError, *place: str) -> list[Complaint]:
    """What pydantic found, without the values."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [((*place, *one["loc"]), one["msg"]) for one in found]


def refusal(state_class: type[State], found: list[Complaint], *, what: str) -> StateValidationError:
    """The error of ours for values that do not fit a state: it names the fields, and holds none of the values."""
    fields = tuple(dict.fromkeys(str(place[0]) for place, _ in found if place))
    told = "; ".join(f"{'.'.join(map(str, place)) or 'as a whole'}: {message}" for place, message in found[:TOLD])
    more = f" (and {len(found) - TOLD} more)" if len(found) > TOLD else ""
    return StateValidationError(f"{what} does not fit {state_class.__name__}: {told}{more}", fields=fields)


def unknown_fields(state_class: type[State], names: list[str], *, what: str) -> StateValidationError:
    """The error of ours for fields that a state does not have."""
    has = ", ".join(state_class.model_fields) or "no fields"
    listed = ", ".join(map(repr, names))
    return StateValidationError(f"{what} names {listed}; {state_class.__name__} has {has}", fields=tuple(names))


def _reducer(where: str, annotation: Any, metadata: list[Any]) -> Reducer:
    if _is_reduced_inside(annotation) or any(mark in FACTORIES for mark in metadata if callable(mark)):
        raise CompileError(
            "reducer_configuration_invalid",
            f"{where}: a reducer stands outermost, as in Annotated[list[str], append], and one that takes arguments is "
            "called, as in Annotated[list[str], bounded_append(100)]",
        )
    declared = [mark for mark in metadata if isinstance(mark, Reducer)]
    if len(declared) > 1:
        names = " and ".join(reducer.name for reducer in declared)
        raise CompileError("conflicting_reducers", f"{where} declares the reducers {names}; keep one")
    return declared[0] if declared else last_write_wins


def _is_reduced_inside(annotation: Any) -> bool:
    return isinstance(annotation, Reducer) or any(_is_reduced_inside(part) for part in get_args(annotation))
