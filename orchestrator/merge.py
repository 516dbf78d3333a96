"""How a node's partial update becomes the next state."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from orchestrator.errors import ReducerError, StateValidationError
from orchestrator.reducer import Reducer
from orchestrator.state import Complaint, State, annotation_of, complaints, reducers_of, refusal, unknown_fields

StateT = TypeVar("StateT", bound=State)


class Contributions(dict[str, Any]):
    """Several partial updates that are merged one after the other.

    To a middleware it is one partial update, in which later parts hide earlier ones.
    """

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        super().__init__({name: value for part in parts for name, value in part.items()})
        self.parts = tuple(parts)


def merged(state: StateT, update: Mapping[str, Any], *, node: str) -> StateT:
    """The state after what a node gave; raises as `apply` does."""
    parts = update.parts if isinstance(update, Contributions) else (update,)
    for part in parts:
        state = apply(state, part, node=node)
    return state


def apply(state: StateT, partial: Mapping[str, Any], *, node: str) -> StateT:
    """Merge a partial update through the reducers of its fields; neither the state nor the update is changed.

    Only fields of the update are validated, unless the class has validators of its own: then the whole state is.

    Raises:
        StateValidationError: the update is no mapping, names an unknown field, or gives a value that does not fit.
        ReducerError: a reducer refused its part.
    """
    what = f"what node {node!r} returned"
    if not isinstance(partial, Mapping):
        raise StateValidationError(
            f"{what} is a {type(partial).__name__}; return a mapping of fields, or {{}} for no change"
        )
    if not partial:
        return state
    merging = _merging_of(type(state))
    unknown = [str(name) for name in partial if name not in merging.reducers]
    if unknown:
        raise unknown_fields(type(state), unknown, what=what)
    merged = {name: _reduced(merging.reducers[name], name, state, update=partial[name], node=node) for name in partial}
    return merging.replaced(state, merged, what=what)


def _reduced(reducer: Reducer, name: str, state: State, *, update: Any, node: str) -> Any:
    try:
        return reducer(getattr(state, name), update)
    except Exception as error:
        raise ReducerError(node, name, reducer.name, str(error), recoverable_state=state) from error


class _Merging:
    """What is needed to merge into one class of state, made once."""

    def __init__(self, state_class: type[State]) -> None:
        self.reducers = reducers_of(state_class)
        self._class = state_class
        self._validates_whole = _has_validators(state_class)
        self._validators = {
            name: _validator(state_class, field)
            for name, field in state_class.model_fields.items()
            if not self._validates_whole
        }

    def replaced(self, state: StateT, values: dict[str, Any], *, what: str) -> StateT:
        """The state with these fields replaced by what their validators make of the values."""
        if self._validates_whole:
            return self._revalidated(state, values, what=what)
        after = state.model_copy(update=self._validated(values, what=what))
        # A cached property of the old state would answer for the new one.
        for name in after.__dict__.keys() - self.reducers.keys():
            del after.__dict__[name]
        return after

    def _revalidated(self, state: StateT, values: dict[str, Any], *, what: str) -> StateT:
        kept = {name: getattr(state, name) for name in self.reducers}
        try:
            return type(state).model_validate({**kept, **values}, by_alias=False, by_name=True)
        except ValidationError as error:
            raise refusal(self._class, complaints(error), what=what) from error

    def _validated(self, values: dict[str, Any], *, what: str) -> dict[str, Any]:
        valid: dict[str, Any] = {}
        found: list[Complaint] = []
        for name, value in values.items():
            try:
                valid[name] = self._validators[name](value)
            except ValidationError as error:
                found += complaints(error, name)
        if found:
            raise refusal(self._class, found, what=what)
        return valid


@cache
def _merging_of(state_class: type[State]) -> _Merging:
    return _Merging(state_class)


def _has_validators(state_class: type[State]) -> bool:
    declared = state_class.__pydantic_decorators__
    return bool(
        declared.model_validators
        or declared.field_validators
        or declared.validators
        or declared.root_validators
        or state_class.__pydantic_post_init__
    )


def _validator(state_class: type[State], field: FieldInfo) -> Callable[[Any], Any]:
    annotation = annotation_of(field)
    try:
        return TypeAdapter(annotation, config=state_class.model_config).validate_python
    except PydanticUserError:
        return TypeAdapter(annotation).validate_python  # a model, which brings a configuration of its own
