from functools import cached_property
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from orchestrator.errors import ReducerError, StateValidationError
from orchestrator.merge import apply
from orchestrator.reducer import append, concat_flatten, merge_all
from orchestrator.state import State


class Page(BaseModel):
    url: str


class Crawl(State):
    pages: Annotated[list[Page], append] = []
    depth: Annotated[int, Field(ge=0)] = 0
    title: str = ""
    registry: Annotated[dict[str, Any], merge_all] = {}


def test_fields_are_merged_through_their_reducers():
    before = Crawl(pages=[Page(url="a")], title="old")
    after = apply(before, {"pages": [Page(url="b")], "title": "new"}, node="n")
    assert after == Crawl(pages=[Page(url="a"), Page(url="b")], title="new")


def test_the_prior_state_stays_as_it_was():
    before = Crawl(pages=[Page(url="a")])
    apply(before, {"pages": [Page(url="b")]}, node="n")
    assert before == Crawl(pages=[Page(url="a")])


def test_a_merged_list_is_not_the_nodes_own():
    given = ["a"]

    class Bag(State):
        items: list[str] = []

    after = apply(Bag(), {"items": given}, node="n")
    given.append("b")
    assert after.items == ["a"]


def test_fields_that_the_update_does_not_name_are_not_copied():
    before = Crawl(pages=[Page(url="a")])
    assert apply(before, {"title": "x"}, node="n").pages is before.pages


def test_an_empty_update_changes_nothing():
    before = Crawl()
    assert apply(before, {}, node="n") is before


def test_values_become_what_the_field_declares():
    assert apply(Crawl(), {"pages": [{"url": "a"}]}, node="n").pages == [Page(url="a")]


def test_the_merged_value_is_validated_and_not_the_update():
    assert apply(Crawl(), {"registry": [{"a": 1}]}, node="n").registry == {"a": 1}


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(StateValidationError, match=r"node 'n'.*'titel'.*title") as refused:
        apply(Crawl(), {"titel": "x"}, node="n")
    assert refused.value.fields == ("titel",)


def test_every_value_that_does_not_fit_is_named():
    with pytest.raises(StateValidationError, match=r"depth: .*greater than or equal to 0") as refused:
        apply(Crawl(), {"depth": -1, "title": ["secret"], "pages": []}, node="n")
    assert refused.value.fields == ("depth", "title")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("returned", [None, ["title"], "title"])
def test_an_update_is_a_mapping(returned):
    with pytest.raises(StateValidationError, match="return a mapping of fields"):
        apply(Crawl(), returned, node="n")


def test_a_refused_update_names_node_field_and_reducer():
    before = Crawl()
    with pytest.raises(ReducerError, match=r"merge_all of field 'registry'.*node 'n'") as refused:
        apply(before, {"registry": [{"k": 1}, "text"]}, node="n")
    error = refused.value
    assert (error.node_name, error.field, error.reducer) == ("n", "registry", "merge_all")
    assert error.recoverable_state is before
    assert isinstance(error.__cause__, TypeError)


def test_an_empty_place_under_a_strict_reducer_is_refused():
    class Lines(State):
        lines: Annotated[list[str], concat_flatten] = []

    with pytest.raises(ReducerError):
        apply(Lines(), {"lines": [["a"], None]}, node="n")


class Range(State):
    low: int = 0
    high: int = 10

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def test_validators_of_the_class_run_on_the_merged_state():
    assert apply(Range(), {"low": 11, "high": 12}, node="n") == Range(low=11, high=12)
    with pytest.raises(StateValidationError, match="low is above high"):
        apply(Range(), {"low": 11}, node="n")


def test_validators_of_a_field_run_on_its_merged_value():
    class Name(State):
        name: str = ""

        @field_validator("name")
        @classmethod
        def _stripped(cls, value: str) -> str:
            return value.strip()

    assert apply(Name(), {"name": " a "}, node="n").name == "a"


def test_a_state_of_a_subclass_stays_one():
    class Deep(Crawl):
        extra_depth: int = 0

    after = apply(Deep(extra_depth=3), {"title": "x"}, node="n")
    assert isinstance(after, Deep)
    assert after.extra_depth == 3


def test_a_cached_property_is_computed_again():
    class Sized(State):
        items: list[str] = []

        @cached_property
        def size(self) -> int:
            return len(self.items)

    before = Sized(items=["a"])
    assert before.size == 1
    assert apply(before, {"items": ["a", "b"]}, node="n").size == 2


def test_fields_with_aliases_are_merged_by_their_names():
    class Aliased(State):
        title: str = Field(default="", alias="headline")

        @model_validator(mode="after")
        def _any(self) -> "Aliased":
            return self

    assert apply(Aliased(), {"title": "x"}, node="n").title == "x"
