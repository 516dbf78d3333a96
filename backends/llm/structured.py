"""Answers that follow the schema of a pydantic class."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from backends.llm.completion import Completion
from backends.llm.error import StructuredOutputInvalid

MAX_FAULTS = 5
MAX_NAME_CHARACTERS = 64


def response_format(response_model: type[BaseModel]) -> dict[str, Any]:
    """What asks a server for JSON of this class."""
    name = re.sub(r"[^\w-]", "_", response_model.__name__, flags=re.ASCII)[:MAX_NAME_CHARACTERS]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": response_model.model_json_schema()}}


def parsed(response_model: type[BaseModel], completion: Completion, server: str) -> BaseModel:
    """The instance that a model described.

    Raises:
        StructuredOutputInvalid: it did not. Faults name fields and rules, never what was answered.
    """
    if completion.text is None:
        raise StructuredOutputInvalid(server, "it refused" if completion.refusal else "there is no text")
    try:
        return response_model.model_validate_json(completion.text)
    except ValidationError as error:
        faults = tuple(islice(_faults(response_model, error), MAX_FAULTS))
    reason = "it was cut short" if completion.finish_reason == "length" else "by pydantic's rules"
    raise StructuredOutputInvalid(server, reason, faults=faults)


def _faults(response_model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    # Deeper names may be keys of what was answered.
    known = {alias for name, field in response_model.model_fields.items() for alias in (name, field.alias)}
    for fault in error.errors(include_input=False, include_context=False, include_url=False):
        first = next(iter(fault["loc"]), None)
        yield f"{first}: {fault['type']}" if first in known else fault["type"]
