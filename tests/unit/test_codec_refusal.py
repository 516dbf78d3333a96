"""What JSON cannot carry is refused before it is kept, however equal it looks."""

from collections import deque
from datetime import UTC, datetime, time, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, create_model, field_validator, model_validator

from orchestrator.codec import Codec
from orchestrator.errors import StateNotSerializable
from orchestrator.state import State

BERLIN = ZoneInfo("Europe/Berlin")
LOCAL = datetime.fromisoformat("2020-10-25T02:30:00")


class Rank(IntEnum):
    LOW = 1


class Size(StrEnum):
    SMALL = "s"


class UsesValues(BaseModel):
    model_config = ConfigDict(use_enum_values=True)
    rank: Rank = Rank.LOW


class Doubling(State):
    value: int = 0

    @field_validator("value")
    @classmethod
    def double(cls, value: int) -> int:
        return value * 2


class Growing(State):
    value: list[int] = []

    @model_validator(mode="after")
    def grow(self) -> "Growing":
        self.value.append(1)
        return self


class Settling(State):
    value: list[int] = []

    def model_post_init(self, _context: Any) -> None:
        self.value.append(1)


class Trimmed(State):
    value: str = ""

    @field_validator("value")
    @classmethod
    def trim(cls, value: str) -> str:
        return value.strip()


def a_state(annotation: Any, value: Any) -> State:
    return create_model("Drawn", __base__=State, value=(annotation, ...)).model_validate({"value": value})


REFUSED = {
    "a set of numbers and members that equal them": (a_state(set[Rank | int], {Rank.LOW}), "Rank comes back as int"),
    "a set of texts and members that equal them": (a_state(set[Size | str], {Size.SMALL}), "Size comes back as str"),
    "a set of anything": (a_state(set[Any], {Rank.LOW}), "Rank comes back as int"),
    "a bare frozenset": (a_state(frozenset, frozenset({Size.SMALL})), "Size comes back as str"),
    "a set of tuples": (a_state(set[tuple[Rank | int, ...]], {(Rank.LOW,)}), "Rank comes back as int"),
    "a literal of a member and its number": (a_state(Literal[Rank.LOW, 1], Rank.LOW), "Rank comes back as int"),
    "a literal of a member and its text": (a_state(Literal[Size.SMALL, "s"], Size.SMALL), "Size comes back as str"),
    "a member that use_enum_values has not touched": (a_state(UsesValues, UsesValues()), "Rank comes back as int"),
    "a deque with a length": (a_state(deque[int], deque([1], maxlen=3)), "without its length"),
    "a time of a named zone": (a_state(time, time(1, tzinfo=BERLIN)), "zone Europe/Berlin"),
    "a moment of a named zone": (a_state(datetime, datetime(2026, 3, 28, tzinfo=BERLIN)), "keep it in UTC"),
    "a moment among others": (a_state(list[datetime], [datetime(2026, 3, 28, tzinfo=BERLIN)]), "keep it in UTC"),
    "the second of two equal hours": (a_state(datetime, LOCAL.replace(fold=1)), "another fold"),
    "what a validator changes once more": (Doubling(value=1), "since a validator of its class changes"),
    "what a validator of the whole changes once more": (Growing(), "since a validator of its class changes"),
    "what is changed once it is made": (Settling(), "since a validator of its class changes"),
}


@pytest.mark.parametrize(("state", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_come_back_changed_is_refused(state: State, reason: str):
    with pytest.raises(StateNotSerializable, match=reason) as caught:
        Codec(type(state)).dump(state)
    assert "'value'" in str(caught.value)


CARRIED = {
    "a literal of members only": a_state(Literal[Rank.LOW], Rank.LOW),
    "a set of members only": a_state(set[Rank], {Rank.LOW}),
    "a set of anything": a_state(set[Any], {1, "a", None}),
    "an endless deque": a_state(deque[int], deque([1, 2])),
    "a moment in UTC": a_state(datetime, datetime(2026, 3, 28, tzinfo=UTC)),
    "a moment of the zone that is UTC": a_state(datetime, datetime(2026, 3, 28, tzinfo=ZoneInfo("UTC"))),
    "a moment with an offset": a_state(datetime, datetime(2026, 3, 28, tzinfo=timezone(timedelta(hours=2)))),
    "a moment without a zone": a_state(datetime, LOCAL),
    "a time with an offset": a_state(time, time(1, 2, 3, tzinfo=timezone(timedelta(hours=2)))),
    "what a validator leaves as it is": Trimmed(value=" a "),
}


@pytest.mark.parametrize("state", CARRIED.values(), ids=CARRIED.keys())
def test_what_comes_back_the_same_is_carried(state: State):
    codec = Codec(type(state))
    assert codec.load(codec.dump(state)) == state


def test_a_state_has_the_fields_that_it_declares_and_no_others():
    with pytest.raises(TypeError, match="Open allows fields that it does not declare"):

        class Open(State):
            model_config = ConfigDict(extra="allow")
