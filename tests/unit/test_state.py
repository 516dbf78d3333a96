from typing import Annotated

import pytest
from pydantic import ValidationError

from orchestrator.errors import CompileError
from orchestrator.reducer import append, bounded_append, last_write_wins, merge
from orchestrator.state import State, reducers_of


class Counter(State):
    total: int = 0
    log: Annotated[list[str], append] = []
    tags: Annotated[dict[str, str], merge] = {}


def test_a_field_without_a_reducer_takes_the_last_write():
    assert reducers_of(Counter) == {"total": last_write_wins, "log": append, "tags": merge}


def test_a_state_cannot_be_changed():
    with pytest.raises(ValidationError):
        Counter().total = 1  # type: ignore[misc]


def test_a_state_refuses_unknown_fields():
    with pytest.raises(ValidationError):
        Counter.model_validate({"totl": 1})


def test_the_schema_version_is_no_field():
    class Versioned(State):
        schema_version = "2"
        total: int = 0

    assert Versioned.schema_version == "2"
    assert list(Versioned.model_fields) == ["total"]


def test_two_reducers_on_a_field_conflict():
    class Torn(State):
        log: Annotated[list[str], append, last_write_wins] = []

    with pytest.raises(CompileError, match="append and last_write_wins") as refused:
        reducers_of(Torn)
    assert refused.value.category == "conflicting_reducers"


def test_a_reducer_inside_a_type_is_refused_and_not_ignored():
    class Hidden(State):
        log: Annotated[list[str], append] | None = None

    with pytest.raises(CompileError) as refused:
        reducers_of(Hidden)
    assert refused.value.category == "reducer_configuration_invalid"


def test_a_reducer_that_was_not_called_is_refused_and_not_ignored():
    class Uncalled(State):
        log: Annotated[list[str], bounded_append] = []

    with pytest.raises(CompileError) as refused:
        reducers_of(Uncalled)
    assert refused.value.category == "reducer_configuration_invalid"


def test_a_subclass_inherits_reducers():
    class Longer(Counter):
        more: int = 0

    assert reducers_of(Longer)["log"] is append
