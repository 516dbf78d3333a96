"""A state as JSON text and back, by the types that it declares."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Generic, cast, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import CoreConfig, SchemaSerializer, SchemaValidator
from typing_extensions import TypedDict, TypeVar

from orchestrator.closed_type import is_closed
from orchestrator.difference import difference
from orchestrator.errors import StateNotSerializable
from orchestrator.set_order import with_sorted_sets
from orchestrator.state import State, annotation_of, complaints, refusal, unknown_fields

StateT = TypeVar("StateT", bound=State, covariant=True, default=State)

TEXT = CoreConfig(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")
"""How JSON is written where it could be written in several ways; the same as in `State`."""


class Codec(Generic[StateT]):
    """Writes and reads states of one class, whole or some of their fields.

    What is written has been read again and was equal, in value and in type: what JSON cannot carry is refused before
    it is kept. Equal values give equal text, in every process; only sets inside models of the user's own may differ.
    """

    def __init__(self, state_class: type[StateT]) -> None:
        self.state_class = state_class
        self._fields = tuple(state_class.model_fields)
        self._is_validated_whole = _is_validated_whole(state_class)
        self._is_closed = {name: is_closed(annotation_of(field)) for name, field in state_class.model_fields.items()}
        schema = TypeAdapter(_fields_type(state_class)).core_schema
        self._write = SchemaSerializer(schema, TEXT).to_json
        validator = SchemaValidator(schema, TEXT)
        self._read, self._validate = validator.validate_json, validator.validate_python

    @staticmethod
    def of(state_class: type[StateT]) -> "Codec[StateT]":
        """The codec of a class, made once."""
        return cast("Codec[StateT]", _codec_of(state_class))

    def dump(self, state: State) -> str:
        """A state as JSON text: the fields of the codec's class, also of a state of a subclass.

        Raises:
            StateNotSerializable: a value would not come back equal.
        """
        values = {name: getattr(state, name) for name in self._fields}
        text = self._text(values)
        if self._is_validated_whole:
            self._check_whole(values, text)
        return text

    def load(self, text: str) -> StateT:
        """The state that a text holds; fields that it leaves out have their default.

        Raises:
            StateValidationError: the text fits the class no more; `fields` says where.
        """
        try:
            return self.state_class.model_validate_json(text, by_alias=False, by_name=True)
        except ValidationError as error:
            raise refusal(self.state_class, complaints(error), what="what was kept") from error

    def dump_fields(self, values: Mapping[str, Any]) -> str:
        """Some fields as the text of a JSON object, in the order in which the class declares them.

        Raises:
            StateValidationError: a name is no field, or a value does not fit its field.
            StateNotSerializable: a value would not come back equal.
        """
        unknown = [name for name in values if name not in self._is_closed]
        if unknown:
            raise unknown_fields(self.state_class, unknown, what="what is to be kept")
        return self._text({name: values[name] for name in self._fields if name in values})

    def load_fields(self, text: str) -> dict[str, Any]:
        """The fields that a text holds, as values of their types.

        Raises:
            StateValidationError: the text does not fit the class; `fields` says where.
        """
        try:
            return self._read_fields(text)
        except ValidationError as error:
            raise refusal(self.state_class, complaints(error), what="what was kept") from error

    def _check_whole(self, values: dict[str, Any], text: str) -> None:
        # Validators of the class run once more when it is loaded, and may give something else then.
        back = self.load(text)
        for name, value in values.items():
            found = difference(value, getattr(back, name))
            if found is not None:
                raise StateNotSerializable(name, f"{found}, since a validator of its class changes what it has checked")

    def _read_fields(self, text: str | bytes) -> dict[str, Any]:
        values: dict[str, Any] = self._read(text, by_alias=False, by_name=True)
        return values

    def _text(self, values: dict[str, Any]) -> str:
        try:
            text, back = self._written(values)
        except (ValueError, RecursionError):
            values = self._typed(values)
            try:
                text, back = self._written(values)
            except (ValueError, RecursionError) as error:
                raise self._refused(values, error) from error
        for name, value in values.items():
            if not (self._is_closed[name] and back[name] == value):
                found = difference(value, back[name])
                if found is not None:
                    raise StateNotSerializable(name, found)
        return text.decode()

    def _written(self, values: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        text = self._write(values, by_alias=False, round_trip=True, warnings="error")
        return text, self._read_fields(text)

    def _typed(self, values: dict[str, Any]) -> dict[str, Any]:
        # What comes from another state, or from middleware, may still have to become what the field declares.
        try:
            typed: dict[str, Any] = self._validate(values, by_alias=False, by_name=True)
        except ValidationError as error:
            raise refusal(self.state_class, complaints(error), what="what is to be kept") from error
        return typed

    def _refused(self, values: dict[str, Any], error: Exception) -> StateNotSerializable:
        for name, value in values.items():
            if len(values) == 1:
                return StateNotSerializable(name, _reason(value, error) + self._advice(name))
            try:
                self._text({name: value})
            except StateNotSerializable as refused:
                return refused
        return StateNotSerializable(", ".join(values), _reason(values, error))

    def _advice(self, name: str) -> str:
        if not _has_model_of_its_own(self.state_class.model_fields[name].annotation):
            return ""
        return " (bytes, NaN and infinity inside a model need the model_config of State: derive the model from State)"


@cache
def _codec_of(state_class: type[State]) -> Codec[Any]:
    return Codec(state_class)


def _fields_type(state_class: type[State]) -> Any:
    # A mapping that may have any of the fields, as the class types them; which they are, no type checker can see.
    make: Any = TypedDict
    annotations = {name: with_sorted_sets(annotation_of(field)) for name, field in state_class.model_fields.items()}
    fields_type = make(state_class.__name__, annotations, total=False)
    fields_type.__pydantic_config__ = {**state_class.model_config, "extra": "forbid"}
    return fields_type


def _is_validated_whole(state_class: type[State]) -> bool:
    own = state_class.__pydantic_decorators__
    validators = (own.field_validators, own.model_validators, own.validators, own.root_validators)
    return any(validators) or state_class.model_post_init is not BaseModel.model_post_init


def _has_model_of_its_own(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return not issubclass(annotation, State)
    return any(map(_has_model_of_its_own, get_args(annotation)))


def _reason(value: Any, error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"it cannot be read again ({error.errors(include_url=False, include_input=False)[0]['msg']})"
    if "warnings" in str(error):  # whose text shows the value
        return f"{type(value).__name__} holds something else than it declares"
    return str(error).splitlines()[0]
