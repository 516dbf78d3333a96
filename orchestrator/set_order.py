"""Sets in an order that is the same in every process."""

import json
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import SerializerFunctionWrapHandler, WrapSerializer

from orchestrator.state import annotated

SETS = (set, frozenset)


def with_sorted_sets(annotation: Any) -> Any:
    """The same type, whose sets are written in order, wherever in it they are; models of the user's stay."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return annotated(with_sorted_sets(args[0]), annotation.__metadata__)
    inner = tuple(with_sorted_sets(arg) for arg in args)
    if any(one is not other for one, other in zip(args, inner, strict=True)):
        annotation = reduce(or_, inner) if origin in (Union, UnionType) else origin[inner]
    is_set = annotation in SETS if origin is None else origin in SETS
    return annotated(annotation, (WrapSerializer(_in_order),)) if is_set else annotation


def _in_order(value: Any, write: SerializerFunctionWrapHandler) -> list[Any]:
    written = list(write(value))
    try:
        return sorted(written)
    except TypeError:
        return sorted(written, key=_as_text)


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
