from typing import Annotated

import pytest

from orchestrator.errors import StateValidationError
from orchestrator.graph.projection import DeclaredSameName, ExplicitMapping, FieldNameMatching
from orchestrator.reducer import append
from orchestrator.state import State


class Outer(State):
    message: str = "outer"
    trace: Annotated[list[str], append] = ["start"]
    seed: int = 5
    only_outer: str = ""


class Inner(State):
    message: str = "inner"
    trace: Annotated[list[str], append] = []
    seed: int = 0
    only_inner: str = "i"


OUTER = Outer(seed=7, message="hello")
INNER = Inner(message="from-y", trace=["x", "y"], seed=777, only_inner="j")


def test_by_default_nothing_goes_in_and_common_fields_come_out():
    projection = FieldNameMatching()
    assert projection.project_in(OUTER, Inner) == Inner()
    assert projection.project_out(INNER, Outer) == {"message": "from-y", "trace": ["x", "y"], "seed": 777}


def test_inputs_are_added_to_the_default():
    projection = ExplicitMapping(inputs={"only_inner": "message"})
    assert projection.project_in(OUTER, Inner) == Inner(only_inner="hello")
    assert projection.project_out(INNER, Outer) == {"message": "from-y", "trace": ["x", "y"], "seed": 777}


def test_outputs_replace_the_default():
    projection = ExplicitMapping(outputs={"only_outer": "only_inner"})
    assert projection.project_in(OUTER, Inner) == Inner()
    assert projection.project_out(INNER, Outer) == {"only_outer": "j"}


def test_empty_outputs_carry_nothing():
    assert ExplicitMapping(outputs={}).project_out(INNER, Outer) == {}


def test_declared_names_are_all_that_crosses():
    projection = DeclaredSameName(in_fields=["seed"], out_fields=["message"])
    assert projection.project_in(OUTER, Inner) == Inner(seed=7)
    assert projection.project_out(INNER, Outer) == {"message": "from-y"}


def test_an_empty_declaration_carries_nothing():
    projection = DeclaredSameName()
    assert projection.project_in(OUTER, Inner) == Inner()
    assert projection.project_out(INNER, Outer) == {}


def test_a_declaration_may_be_read_more_than_once():
    projection = DeclaredSameName(in_fields=(name for name in ["seed"]))
    assert projection.project_in(OUTER, Inner) == projection.project_in(OUTER, Inner) == Inner(seed=7)


def test_a_value_that_does_not_fit_is_refused_with_its_field():
    with pytest.raises(StateValidationError, match="seed") as refused:
        ExplicitMapping(inputs={"seed": "message"}).project_in(OUTER, Inner)
    assert refused.value.fields == ("seed",)


def test_a_required_field_that_gets_no_value_is_refused():
    class Needy(State):
        url: str

    with pytest.raises(StateValidationError, match="url"):
        FieldNameMatching().project_in(OUTER, Needy)
