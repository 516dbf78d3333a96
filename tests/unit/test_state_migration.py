"""A state of an older schema is brought to today's along the one shortest chain, or the reason is said."""

from typing import Any, ClassVar

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.migration import (
    StateMigration,
    StateMigrationAmbiguous,
    StateMigrationFailed,
    StateMigrationMissing,
    StateMigrations,
)
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import CheckpointRecordInvalid, FingerprintMismatch, NodeException
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.state import State
from tests.unit.tracing import Traced, ours


def same(state: dict[str, Any]) -> dict[str, Any]:
    return state


def migrations(*pairs: str) -> StateMigrations:
    return StateMigrations([StateMigration(pair[0], pair[-1], same) for pair in pairs])


def versions(path: list[StateMigration]) -> list[str]:
    return [f"{one.from_version}>{one.to_version}" for one in path]


def test_the_shortest_chain_is_taken():
    known = migrations("1>2", "2>3", "3>4", "2>4", "4>1")
    assert versions(known.path("1", "4")) == ["1>2", "2>4"]
    assert known.leads("1", "4")
    assert not known.leads("4", "5")


def test_without_a_way_the_number_of_migrations_is_said():
    with pytest.raises(StateMigrationMissing, match="2 registered") as raised:
        migrations("1>2", "3>4").path("1", "4")
    told = raised.value
    assert (told.from_version, told.to_version, told.registered_migrations_count) == ("1", "4", 2)


def test_two_equally_short_chains_are_refused():
    with pytest.raises(StateMigrationAmbiguous):
        migrations("1>2", "1>3", "2>4", "3>4").path("1", "4")


def test_the_same_pair_twice_is_refused_at_once():
    with pytest.raises(StateMigrationAmbiguous):
        migrations("1>2", "1>2")


def test_a_circle_without_the_goal_ends():
    with pytest.raises(StateMigrationMissing):
        migrations("1>2", "2>1").path("1", "9")


class OrderV1(State):
    schema_version: ClassVar[str] = "1"
    amount: int = 0
    is_paid: bool = False


class OrderV2(State):
    schema_version: ClassVar[str] = "2"
    cents: int = 0
    is_paid: bool = False


async def fail(_state: Any) -> dict[str, Any]:
    raise ValueError("not today")


async def pay(_state: Any) -> dict[str, Any]:
    return {"is_paid": True}


async def look(_state: Any) -> dict[str, Any]:
    return {}


def graph_of(state_class: type[State], paying: Any, *known: StateMigration) -> CompiledGraph[Any]:
    builder: GraphBuilder[Any] = GraphBuilder(state_class)
    builder.add_node("look", look).add_node("pay", paying).add_edge("look", "pay").add_edge("pay", END)
    return builder.set_entry("look").with_state_migrations(*known).compile("orders")


def to_cents(kept: dict[str, Any]) -> dict[str, Any]:
    return {"cents": kept["amount"] * 100, "is_paid": kept["is_paid"]}


async def interrupted() -> MemoryStore:
    """A store with a run of the old graph that stopped before `pay`."""
    store = MemoryStore()
    with pytest.raises(NodeException):
        await graph_of(OrderV1, fail).invoke(OrderV1(amount=7), checkpointer=store, invocation_id="run")
    return store


async def test_a_run_of_an_older_schema_goes_on_under_todays():
    graph = graph_of(OrderV2, pay, StateMigration("1", "2", to_cents))
    end = await graph.invoke(checkpointer=await interrupted(), resume_invocation="run")
    assert (end.cents, end.is_paid) == (700, True)


async def test_each_state_that_a_resume_migrates_is_a_span_under_its_invocation():
    traced, halfway = Traced(), StateMigration("1", "1b", same)
    graph = graph_of(OrderV2, pay, halfway, StateMigration("1b", "2", to_cents))
    store = await interrupted()
    await graph.invoke(checkpointer=store, resume_invocation="run", observers=[traced.observer])
    first, at_resume = traced.named("rollforward.checkpoint.migrate")
    for span in (first, at_resume):
        assert traced.path(span) == ("rollforward.invocation", "rollforward.checkpoint.migrate")
        told = {name: value for name, value in ours(span).items() if name.startswith("checkpoint_")}
        assert told == {
            "checkpoint_migrate_from_version": "1",
            "checkpoint_migrate_to_version": "2",
            "checkpoint_migrate_chain_length": 2,
        }
        assert span.start_time == span.end_time


async def test_without_a_migration_the_run_is_left_to_the_old_code():
    store = await interrupted()
    with pytest.raises(FingerprintMismatch):
        await graph_of(OrderV2, pay).invoke(checkpointer=store, resume_invocation="run")
    with pytest.raises(StateMigrationMissing):
        await graph_of(OrderV2, pay).invoke(checkpointer=store, resume_invocation="run", accept_code=True)


async def test_a_migration_that_raises_says_so():
    graph = graph_of(OrderV2, pay, StateMigration("1", "2", lambda kept: kept["nothing"]))
    with pytest.raises(StateMigrationFailed, match="KeyError") as raised:
        await graph.invoke(checkpointer=await interrupted(), resume_invocation="run")
    assert isinstance(raised.value.__cause__, KeyError)


async def test_what_fits_no_schema_after_the_migration_is_an_invalid_record():
    graph = graph_of(OrderV2, pay, StateMigration("1", "2", same))
    with pytest.raises(CheckpointRecordInvalid, match="brought to '2'"):
        await graph.invoke(checkpointer=await interrupted(), resume_invocation="run")


async def test_equal_versions_ask_no_migration():
    def never(_kept: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError

    graph = graph_of(OrderV1, pay, StateMigration("1", "2", never), StateMigration("0", "1", never))
    store = await interrupted()
    end = await graph.invoke(checkpointer=store, resume_invocation="run", accept_code=True)
    assert end.is_paid
