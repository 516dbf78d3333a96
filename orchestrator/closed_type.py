"""Which types always come back from JSON as themselves."""

from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.reducer import Reducer

ATOMS = frozenset({str, int, float, bool, bytes, NoneType, Decimal, UUID, date, timedelta})
CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


def is_closed(annotation: Any) -> bool:
    """Whether values of this type that come back equal have come back as the same type, too.

    Where it is not so, as with `Any` or a bare `list`, they have to be compared one by one.
    """
    return _is_closed(annotation, frozenset())


def _is_closed(annotation: Any, seen: frozenset[Any]) -> bool:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _is_closed_class(annotation, seen)
    if origin is Annotated:
        return all(map(_is_harmless, annotation.__metadata__)) and _is_closed(args[0], seen)
    if origin is Literal:
        return len(set(args)) == len(args)
    if origin in (Union, UnionType):
        others = [arg for arg in args if arg is not NoneType]
        return len(others) == 1 and _is_closed(others[0], seen)
    return origin in CONTAINERS and all(arg is Ellipsis or _is_closed(arg, seen) for arg in args)


def _is_closed_class(kind: Any, seen: frozenset[Any]) -> bool:
    if kind in ATOMS or kind in seen:
        return True
    if not isinstance(kind, type):
        return False
    if issubclass(kind, BaseModel):
        return _is_closed_model(kind, seen | {kind})
    return issubclass(kind, Enum)


def _is_closed_model(kind: type[BaseModel], seen: frozenset[Any]) -> bool:
    if kind.model_config.get("extra") == "allow" or kind.model_config.get("use_enum_values"):
        return False
    return all(
        all(map(_is_harmless, field.metadata)) and _is_closed(field.annotation, seen)
        for field in kind.model_fields.values()
    )


def _is_harmless(mark: Any) -> bool:
    if isinstance(mark, FieldInfo):
        return all(map(_is_harmless, mark.metadata))
    return isinstance(mark, Reducer) or type(mark).__module__ == "annotated_types"
