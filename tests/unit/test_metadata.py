"""What callers and nodes say about a run: what holds where, what is refused, and what reaches which span."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.errors import CallerError
from orchestrator.execution.briefing import Briefing
from orchestrator.metadata import (
    MOST_BYTES,
    MOST_ENTRIES,
    RESERVED_NAMES,
    RESERVED_PREFIXES,
    Gathered,
    checked,
    joined,
    latest,
)
from orchestrator.report import Report
from rollforward import (
    END,
    BranchSpec,
    CompiledGraph,
    FailureIsolationMiddleware,
    GraphBuilder,
    MetadataRefused,
    NodeException,
    ReservedMetadata,
    RetryMiddleware,
    State,
    append,
    deterministic_backoff,
    get_invocation_metadata,
    set_invocation_metadata,
)
from tests.contract.checkpoint_case import report
from tests.unit.one_delivery import delivery
from tests.unit.span_tree import SpanTree

if TYPE_CHECKING:
    from collections.abc import Mapping


class Seen(State):
    names: list[str] = ["a", "b"]
    name: str = ""
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    all: Annotated[list[dict[str, Any]], append] = []


def reads(field: str) -> Any:
    async def read(_state: Seen) -> dict[str, Any]:
        held = get_invocation_metadata()
        return {field: {name: list(value) if isinstance(value, tuple) else value for name, value in held.items()}}

    return read


def writes(**entries: Any) -> Any:
    async def write(_state: Seen) -> dict[str, Any]:
        set_invocation_metadata(**entries)
        return {}

    return write


def chain(*functions: Any, **options: Any) -> CompiledGraph[Seen]:
    builder = GraphBuilder(Seen).set_entry("n0")
    for number, function in enumerate(functions):
        builder.add_node(f"n{number}", function, **(options if number == 0 else {}))
        builder.add_edge(f"n{number}", END if number + 1 == len(functions) else f"n{number + 1}")
    return builder.compile()


async def names_itself(state: Seen) -> dict[str, Any]:
    set_invocation_metadata(name=state.name)
    return {"first": dict(get_invocation_metadata())}


def fan_out(instance: CompiledGraph[Seen], *, after: Any = None, **options: Any) -> CompiledGraph[Seen]:
    return (
        GraphBuilder(Seen)
        .add_fan_out_node(
            "each",
            subgraph=instance,
            items_field="names",
            item_field="name",
            collect_field="first",
            target_field="all",
            **options,
        )
        .add_node("after", after or reads("second"))
        .set_entry("each")
        .add_edge("each", "after")
        .add_edge("after", END)
        .compile()
    )


class TestWhatIsRefused:
    @pytest.mark.parametrize("name", ["rollforward.user", "gen_ai.system", *sorted(RESERVED_NAMES)])
    async def test_a_reserved_name_is_refused_before_any_work(self, name):
        begun = []

        async def begin(_state: Seen) -> dict[str, Any]:
            begun.append(1)
            return {}

        with pytest.raises(ReservedMetadata, match=name) as refused:
            await chain(begin).invoke(metadata={"tenant": "t", name: "x"})
        assert isinstance(refused.value, ValueError)
        assert isinstance(refused.value, CallerError)
        assert begun == []

    @pytest.mark.parametrize("value", [None, {}, [1, "a"], [True, 1], [[1]], float("nan"), 2**63, b"x"], ids=repr)
    def test_a_value_that_no_span_takes_is_refused(self, value):
        with pytest.raises(MetadataRefused, match="'odd'"):
            checked({"odd": value})

    @pytest.mark.parametrize("name", ["", "a\nb", 7])
    def test_a_name_that_nobody_can_read_is_refused(self, name):
        with pytest.raises(MetadataRefused):
            checked({name: 1})

    def test_too_many_entries_or_bytes_are_refused_also_together(self):
        half = {f"a{number}": 1 for number in range(MOST_ENTRIES)}
        assert len(checked(half)) == MOST_ENTRIES
        with pytest.raises(MetadataRefused, match="65 entries"):
            joined(checked(half), {"one": 1})
        with pytest.raises(MetadataRefused, match="bytes"):
            checked({"long": "x" * MOST_BYTES})

    async def test_a_node_is_refused_where_it_writes(self):
        with pytest.raises(NodeException) as failed:
            await chain(writes(step="checkout")).invoke()
        assert isinstance(failed.value.__cause__, ReservedMetadata)


class TestWhatHolds:
    async def test_callers_and_nodes_entries_hold_in_the_nodes_after(self):
        end = await chain(reads("first"), writes(audit="fraud", sums=[1, 2]), reads("second")).invoke(
            metadata={"tenant": "t"}
        )
        assert end.first == {"tenant": "t"}
        assert end.second == {"tenant": "t", "audit": "fraud", "sums": [1, 2]}

    async def test_a_plain_function_in_a_thread_reads_and_writes(self):
        def write(_state: Seen) -> dict[str, Any]:
            set_invocation_metadata(by="thread")
            return {"first": dict(get_invocation_metadata())}

        end = await chain(write, reads("second")).invoke(metadata={"tenant": "t"})
        assert end.first == end.second == {"tenant": "t", "by": "thread"}

    async def test_a_failed_attempts_entries_are_dropped(self):
        seen: list[Mapping[str, Any]] = []

        async def second_time(_state: Seen) -> dict[str, Any]:
            seen.append(get_invocation_metadata())
            set_invocation_metadata(attempt_marker=len(seen))
            if len(seen) == 1:
                raise TimeoutError
            return {}

        retry = RetryMiddleware(
            max_attempts=2, classifier=lambda _error, _state: True, backoff=deterministic_backoff(0)
        )
        end = await chain(second_time, reads("second"), middleware=[retry]).invoke()
        assert seen == [{}, {}]
        assert end.second == {"attempt_marker": 2}

    async def test_what_was_written_in_a_failed_try_of_a_whole_instance_or_branch_is_dropped(self):
        turns: list[Mapping[str, Any]] = []

        async def write(_state: Seen) -> dict[str, Any]:
            turns.append(get_invocation_metadata())
            set_invocation_metadata(turn=len(turns))
            return {}

        async def fail_first(_state: Seen) -> dict[str, Any]:
            if len(turns) % 2:
                raise TimeoutError
            return {}

        again = RetryMiddleware(classifier=lambda _error, _state: True, backoff=deterministic_backoff(0))
        inner = chain(write, fail_first)
        await fan_out(inner, instance_middleware=[again]).invoke(Seen(names=["a"]))
        branch = BranchSpec(subgraph=inner, middleware=[again])
        both = GraphBuilder(Seen).add_parallel_branches_node("both", branches={"one": branch}).set_entry("both")
        await both.add_edge("both", END).compile().invoke()
        assert turns == [{}, {}, {}, {}]

    async def test_what_was_isolated_leaves_no_entries(self):
        async def fail(_state: Seen) -> dict[str, Any]:
            set_invocation_metadata(lost=True)
            raise ValueError

        isolation = FailureIsolationMiddleware(degraded_update={}, event_name="degraded")
        end = await chain(fail, reads("second"), middleware=[isolation]).invoke()
        assert end.second == {}

    @pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
    async def test_an_instance_has_entries_of_its_own_that_do_not_flow_back(self, run_on):
        graph = fan_out(chain(names_itself), run_on=run_on)
        end = await graph.invoke(metadata={"tenant": "t"})
        assert end.all == [{"tenant": "t", "name": "a"}, {"tenant": "t", "name": "b"}]
        assert end.second == {"tenant": "t"}

    async def test_a_branch_has_entries_of_its_own_that_do_not_flow_back(self):
        async def call(_state: Seen) -> dict[str, Any]:
            set_invocation_metadata(by="call")
            return {"second": dict(get_invocation_metadata())}

        after: list[Mapping[str, Any]] = []

        async def look(_state: Seen) -> dict[str, Any]:
            after.append(get_invocation_metadata())
            return {}

        branches = {
            "graph": BranchSpec(subgraph=chain(writes(by="graph"), reads("first")), outputs={"first": "first"}),
            "call": BranchSpec(call=call),
        }
        graph = (
            GraphBuilder(Seen)
            .add_parallel_branches_node("both", branches=branches)
            .add_node("after", look)
            .set_entry("both")
            .add_edge("both", "after")
            .add_edge("after", END)
            .compile()
        )

        end = await graph.invoke(metadata={"tenant": "t"})
        assert end.first == {"tenant": "t", "by": "graph"}
        assert end.second == {"tenant": "t", "by": "call"}
        assert after == [{"tenant": "t"}]

    async def test_a_subgraphs_entries_hold_after_it(self):
        inner = chain(writes(by="inner"))
        graph = (
            GraphBuilder(Seen)
            .add_subgraph_node("inner", inner)
            .add_node("after", reads("second"))
            .set_entry("inner")
            .add_edge("inner", "after")
            .add_edge("after", END)
            .compile()
        )
        assert (await graph.invoke()).second == {"by": "inner"}

    async def test_outside_a_run_there_is_none_and_nothing_is_kept(self):
        set_invocation_metadata(tenant="t")
        assert get_invocation_metadata() == {}

    async def test_what_is_read_cannot_be_changed(self):
        with pytest.raises(TypeError):
            get_invocation_metadata()["a"] = 1  # type: ignore[index]

    async def test_a_resumed_run_has_its_callers_entries_again(self):
        store, outcomes = MemoryStore(), iter([ValueError(), None])

        async def fail_once(state: Seen) -> dict[str, Any]:
            if error := next(outcomes):
                raise error
            update: dict[str, Any] = await reads("second")(state)
            return update

        graph = chain(fail_once)
        with pytest.raises(NodeException):
            await graph.invoke(metadata={"tenant": "t", "tags": ["a"]}, invocation_id="r", checkpointer=store)
        end = await graph.invoke(resume_invocation="r", checkpointer=store)
        assert end.second == {"tenant": "t", "tags": ["a"]}


class TestWhatReachesSpans:
    async def test_a_serial_node_reaches_its_own_and_the_invocations_span(self):
        tree = SpanTree()
        await chain(reads("first"), writes(request="x"), reads("second")).invoke(observers=[tree])
        assert tree.user_facts("request") == {"invocation": ["x"], "n0": [None], "n1": ["x"], "n2": ["x"]}

    async def test_instances_reach_around_the_fork_in_index_order_and_not_the_fork(self):
        wrapped = fan_out(chain(names_itself))
        graph = GraphBuilder(Seen).add_subgraph_node("wrap", wrapped).set_entry("wrap").add_edge("wrap", END).compile()
        tree = SpanTree()
        await graph.invoke(observers=[tree])
        assert tree.user_facts("name") == {
            "invocation": [None],
            "wrap": ["b"],
            "each": [None],
            "instance 0": ["a"],
            "instance 1": ["b"],
            "n0": ["a", "b"],
            "after": [None],
        }

    async def test_nested_instances_reach_the_instance_around_them(self):
        inner = fan_out(chain(names_itself))
        outer = GraphBuilder(Seen).add_subgraph_node("book", inner).set_entry("book").add_edge("book", END).compile()
        tree = SpanTree()
        await fan_out(outer).invoke(Seen(names=["only"]), observers=[tree])
        found = tree.user_facts("name")
        assert found["instance 0"] == ["b", "a"]
        assert found["instance 1"] == ["b"]
        assert found["book"] == ["b"]
        assert found["invocation"] == [None]


class TestWhatTravels:
    def test_a_briefing_has_what_holds_at_its_node_and_nothing_where_nothing_does(self):
        _, briefing = delivery(chain(reads("first")), "each", {})
        assert b'"metadata"' not in briefing.to_json()
        told = replace(briefing, metadata={"tenant": "t", "tags": ("a", "b")})
        assert Briefing.from_json(told.to_json()) == told

    def test_a_report_is_read_back_with_what_was_written(self):
        assert b'"metadata"' not in report().to_json()
        told = report(metadata={"tags": ("a", "b"), "count": 1, "share": 0.5, "is_new": True})
        assert Report.from_json(told.to_json()).metadata == told.metadata
        with pytest.raises(ValueError, match="Report"):
            Report.from_json(told.to_json().replace(b'["a","b"]', b'[["a"]]'))

    def test_of_what_instances_wrote_that_of_the_highest_index_stays_in_any_order(self):
        for order in ([0, 1, 2], [2, 0, 1]):
            gathered = Gathered()
            for index in order:
                gathered.add(index, {"name": index, f"own{index}": index})
            assert gathered.entries == {"name": 2, "own0": 0, "own1": 1, "own2": 2}

    def test_of_more_than_fits_the_highest_indexes_stay_in_any_order(self):
        found = []
        for order in (range(100), reversed(range(100))):
            gathered = Gathered()
            for index in order:
                gathered.add(index, {f"own{index}": index})
            found.append(gathered.entries)
        assert found[0] == found[1] == {f"own{index}": index for index in range(100 - MOST_ENTRIES, 100)}

    def test_of_more_than_fits_in_one_place_the_earliest_go(self):
        held = {f"a{number}": number for number in range(MOST_ENTRIES)}
        assert latest(held, {"b": 1}) == {**{f"a{number}": number for number in range(1, MOST_ENTRIES)}, "b": 1}

    async def test_a_report_carries_what_its_instance_wrote_and_no_store_keeps_it(self):
        store = MemoryStore()
        graph = fan_out(chain(names_itself))
        await graph.invoke(checkpointer=store, invocation_id="r")
        (row,) = await store.fan_outs("r")
        assert [slot.report.metadata async for slot in store.slots("r", row.id)] == [{}, {}]


def test_the_page_on_observability_names_whatever_is_reserved():
    text = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
    assert [name for name in (*RESERVED_NAMES, *RESERVED_PREFIXES) if f"`{name}`" not in text] == []
