"""A whole run in one process: stepping, resuming, failing, cancelling."""

import asyncio
import gc
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import RunStatus, Seen
from orchestrator.checkpoint.verify import verify
from orchestrator.compiled import CompiledGraph
from orchestrator.context import current_attempt_index, current_fan_out_index, idempotency_key
from orchestrator.errors import (
    CheckpointNotFound,
    CheckpointRecordInvalid,
    Fenced,
    FingerprintMismatch,
    NodeException,
    RemoteError,
    RunCancelled,
    RunExists,
    RunIsDriven,
)
from orchestrator.execution.lane import Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END, Target
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from orchestrator.reducer import append
from orchestrator.state import State
from tests.unit.graph_of_numbers import Numbers, numbers_graph


class Log(State):
    log: Annotated[list[str], append] = []
    turns: int = 0


class Broken(Exception):
    """What a node of these tests fails with."""


class Breaker:
    """Lets chosen calls fail until it is mended, and counts them all."""

    def __init__(self, *names: object) -> None:
        self.broken = set(names)
        self.calls: Counter[object] = Counter()

    def called(self, name: object) -> None:
        self.calls[name] += 1
        if name in self.broken:
            raise Broken(f"{name} is broken")

    def mend(self) -> None:
        self.broken.clear()
        self.calls.clear()


def logging_node(name: str, breaker: Breaker) -> Any:
    async def node(_state: Log) -> dict[str, Any]:
        breaker.called(name)
        return {"log": [name]}

    return node


def chain_of(*names: str, breaker: Breaker) -> CompiledGraph[Log]:
    builder = GraphBuilder(Log).set_entry(names[0])
    targets: tuple[Target, ...] = (*names[1:], END)
    for name, after in zip(names, targets, strict=True):
        builder.add_node(name, logging_node(name, breaker)).add_edge(name, after)
    return builder.compile("chain-" + "-".join(names))


def squares_graph(breaker: Breaker, **options: Any) -> CompiledGraph[Numbers]:
    async def before_each(state: Any, call: Any) -> Any:
        breaker.called(state.number)
        return await call(state)

    return numbers_graph(instance_middleware=[before_each], **options)


class TestStepping:
    async def test_nodes_run_along_the_edges_and_their_updates_are_merged(self):
        assert (await chain_of("a", "b", "c", breaker=Breaker()).invoke()).log == ["a", "b", "c"]

    def test_the_synchronous_twins_do_the_same(self):
        graph = chain_of("a", "b", breaker=Breaker())
        assert graph.run().log == ["a", "b"]
        handle = graph.submit()
        assert handle.result(timeout=10).log == ["a", "b"]
        assert handle.status().status is RunStatus.SUCCEEDED

    def test_an_error_reaches_the_caller_of_a_synchronous_twin(self):
        graph = chain_of("a", breaker=Breaker("a"))
        with pytest.raises(NodeException, match="a is broken"):
            graph.submit().result(timeout=10)

    async def test_a_plain_function_is_a_node_too_and_sees_where_it_runs(self):
        def plain(_state: Log) -> dict[str, Any]:
            return {"log": [str(current_attempt_index()), str(idempotency_key() is not None)]}

        graph = GraphBuilder(Log).add_node("plain", plain).set_entry("plain").add_edge("plain", END).compile("plain")
        assert (await graph.invoke()).log == ["0", "True"]

    async def test_a_conditional_edge_loops_until_it_says_end(self):
        async def turn(state: Log) -> dict[str, Any]:
            return {"turns": state.turns + 1, "log": [f"turn {state.turns}"]}

        graph = (
            GraphBuilder(Log)
            .add_node("turn", turn)
            .set_entry("turn")
            .add_conditional_edge("turn", lambda state: END if state.turns == 3 else "turn")
            .compile("loop")
        )
        assert (await graph.invoke()).log == ["turn 0", "turn 1", "turn 2"]

    async def test_a_node_that_raises_gives_the_state_before_it(self):
        graph = chain_of("a", "b", breaker=Breaker("b"))
        with pytest.raises(NodeException) as caught:
            await graph.invoke()
        assert caught.value.node_name == "b"
        assert caught.value.recoverable_state.log == ["a"]
        assert isinstance(caught.value.__cause__, Broken)

    @pytest.mark.parametrize("error", [SystemExit(5), KeyboardInterrupt(), asyncio.CancelledError()], ids=type)
    async def test_a_node_that_raises_what_ends_programs_fails_its_run_and_no_more(self, error):
        async def exits(_state: Log) -> dict[str, Any]:
            raise error

        store = MemoryStore()
        graph = GraphBuilder(Log).add_node("exits", exits).set_entry("exits").compile("exits")
        with pytest.raises(NodeException):
            await graph.invoke(checkpointer=store, invocation_id="r")
        assert (await store.find("r")).status is RunStatus.FAILED


class TestResume:
    async def test_completed_nodes_are_not_run_again(self):
        breaker, store = Breaker("b"), MemoryStore()
        graph = chain_of("a", "b", "c", breaker=breaker)
        with pytest.raises(NodeException):
            await graph.invoke(invocation_id="r", checkpointer=store)
        breaker.mend()
        assert (await graph.invoke(resume_invocation="r", checkpointer=store)).log == ["a", "b", "c"]
        assert breaker.calls == {"b": 1, "c": 1}

    async def test_a_resume_is_another_invocation_of_the_same_run(self):
        breaker, store = Breaker("b"), MemoryStore()
        graph = chain_of("a", "b", breaker=breaker)
        with pytest.raises(NodeException):
            await graph.invoke(invocation_id="r", checkpointer=store, correlation_id="order-7")
        breaker.mend()
        handle = await graph.start(resume_invocation="r", checkpointer=store)
        await handle.result()
        run = await store.find(handle.invocation_id)
        assert (handle.run_id, run.run_id, run.correlation_id) == ("r", "r", "order-7")
        assert handle.invocation_id != "r"

    async def test_a_subgraph_goes_on_inside(self):
        breaker, store = Breaker("y"), MemoryStore()
        inner = chain_of("x", "y", breaker=breaker)
        graph = (
            GraphBuilder(Log)
            .add_node("a", logging_node("a", breaker))
            .add_subgraph_node("sub", inner)
            .set_entry("a")
            .add_edge("a", "sub")
            .add_edge("sub", END)
            .compile("with-sub")
        )
        with pytest.raises(NodeException):
            await graph.invoke(invocation_id="r", checkpointer=store)
        breaker.mend()
        assert (await graph.invoke(resume_invocation="r", checkpointer=store)).log == ["a", "x", "y"]
        assert breaker.calls == {"y": 1}

    async def test_a_loop_that_was_half_done_goes_on_and_ends(self):
        breaker, store = Breaker(2), MemoryStore()

        async def turn(state: Log) -> dict[str, Any]:
            breaker.called(state.turns)
            return {"turns": state.turns + 1}

        graph = (
            GraphBuilder(Log)
            .add_node("turn", turn)
            .set_entry("turn")
            .add_conditional_edge("turn", lambda state: END if state.turns == 4 else "turn")
            .compile("half-loop")
        )
        with pytest.raises(NodeException):
            await graph.invoke(invocation_id="r", checkpointer=store)
        breaker.mend()
        assert (await graph.invoke(resume_invocation="r", checkpointer=store)).turns == 4
        assert breaker.calls == {2: 1, 3: 1}

    async def test_a_finished_run_gives_its_result_without_running(self):
        breaker, store = Breaker(), MemoryStore()
        graph = chain_of("a", breaker=breaker)
        await graph.invoke(invocation_id="r", checkpointer=store)
        assert (await graph.invoke(resume_invocation="r", checkpointer=store)).log == ["a"]
        assert breaker.calls == {"a": 1}

    async def test_an_id_that_nobody_knows_is_refused(self):
        with pytest.raises(CheckpointNotFound):
            await chain_of("a", breaker=Breaker()).invoke(resume_invocation="r")

    async def test_an_id_that_is_taken_is_refused(self):
        graph, store = chain_of("a", breaker=Breaker()), MemoryStore()
        await graph.invoke(invocation_id="r", checkpointer=store)
        with pytest.raises(RunExists):
            await graph.invoke(invocation_id="r", checkpointer=store)

    async def test_another_version_of_the_graph_is_refused_unless_it_is_accepted(self):
        store, breaker = MemoryStore(), Breaker("a")
        with pytest.raises(NodeException):
            await chain_of("a", "b", breaker=breaker).invoke(invocation_id="r", checkpointer=store)
        breaker.mend()
        other = chain_of("a", "c", breaker=breaker)
        with pytest.raises(FingerprintMismatch, match="--accept-code"):
            await other.invoke(resume_invocation="r", checkpointer=store)
        after = await other.invoke(resume_invocation="r", checkpointer=store, accept_code=True)
        assert after.log == ["a", "c"]
        assert (await store.find("r")).fingerprint == other.fingerprint


class TestFanOut:
    async def test_every_item_is_run_and_folded_in_order(self):
        store = MemoryStore()
        after = await numbers_graph().invoke(
            Numbers(numbers=[3, 1, 2], offset=10), checkpointer=store, invocation_id="r"
        )
        assert (after.squares, after.notes, after.count) == ([19, 11, 14], ["n3", "n1", "n2"], 3)
        assert (await verify(store, "r")).ok

    @pytest.mark.parametrize("concurrency", [1, 2, None, "auto"])
    async def test_no_more_run_at_once_than_concurrency_allows(self, concurrency):
        running, most = 0, 0

        async def count(state: Any, call: Any) -> Any:
            nonlocal running, most
            running, most = running + 1, max(most, running + 1)
            await asyncio.sleep(0.001)
            try:
                return await call(state)
            finally:
                running -= 1

        graph = numbers_graph(instance_middleware=[count], concurrency=concurrency)
        await graph.invoke(Numbers(numbers=list(range(20))))
        assert most == (concurrency if isinstance(concurrency, int) else 20)

    async def test_an_empty_one_raises_unless_it_may_be_empty(self):
        with pytest.raises(NodeException) as caught:
            await numbers_graph().invoke(Numbers())
        assert caught.value.fan_out_category == "fan_out_empty"
        after = await numbers_graph(on_empty="noop").invoke(Numbers())
        assert (after.squares, after.count) == ([], 0)

    async def test_fail_fast_raises_for_the_fan_out_node_with_the_first_failure_as_its_cause(self):
        with pytest.raises(NodeException) as caught:
            await numbers_graph().invoke(Numbers(numbers=[1, -1, 2]))
        assert caught.value.node_name == "squares"
        assert caught.value.recoverable_state.squares == []
        assert isinstance(caught.value.__cause__, RemoteError)
        assert "-1 is negative" in str(caught.value.__cause__)

    async def test_fail_fast_stops_what_runs_and_starts_nothing_new(self):
        started: list[int] = []

        async def slow(state: Any, call: Any) -> Any:
            started.append(state.number)
            if state.number:
                await asyncio.sleep(60)
            raise Broken("at once")

        graph = numbers_graph(instance_middleware=[slow], concurrency=3)
        async with asyncio.timeout(5):
            with pytest.raises(NodeException, match="at once"):
                await graph.invoke(Numbers(numbers=[0, 1, 2, 3, 4]))
        assert sorted(started) == [0, 1, 2]

    async def test_collect_keeps_failures_apart_from_results(self):
        store = MemoryStore()
        graph = numbers_graph(error_policy="collect", errors_field="errors")
        after = await graph.invoke(Numbers(numbers=[1, -1, 2]), checkpointer=store, invocation_id="r")
        assert after.squares == [1, 4]
        assert [(error["fan_out_index"], error["type"]) for error in after.errors] == [("1", "ValueError")]
        proof = await verify(store, "r")
        assert (proof.ok, proof.fan_outs[0].succeeded, proof.fan_outs[0].failed) == (True, 2, 1)

    async def test_an_instance_is_tried_again_under_its_middleware_from_its_entry(self):
        tries: Counter[int] = Counter()

        async def flaky(state: Any, call: Any) -> Any:
            tries[state.number] += 1
            assert current_attempt_index() == tries[state.number] - 1
            if tries[state.number] < 3:
                raise Broken("not yet")
            return await call(state)

        again = RetryMiddleware(max_attempts=3, classifier=lambda *_: True, backoff=deterministic_backoff(0))
        graph = numbers_graph(instance_middleware=[again, flaky])
        assert (await graph.invoke(Numbers(numbers=[2, 3]))).squares == [4, 9]
        assert tries == {2: 3, 3: 3}

    async def test_an_instance_over_its_time_limit_has_failed(self):
        async def sleepy(_state: Any, _call: Any) -> Any:
            await asyncio.sleep(60)

        graph = numbers_graph(instance_middleware=[sleepy], time_limit=timedelta(seconds=0.01))
        with pytest.raises(NodeException) as caught:
            await graph.invoke(Numbers(numbers=[1]))
        assert getattr(caught.value.__cause__, "category", None) == "instance_time_limit_exceeded"

    async def test_a_result_over_the_limit_has_failed_its_instance(self):
        async def swollen(_state: Any, _call: Any) -> Any:
            return {"note": "x" * 1000}

        options = Options(owner="me", max_item_bytes=500)
        graph = numbers_graph(instance_middleware=[swollen], error_policy="collect", errors_field="errors")
        after = await graph.invoke(Numbers(numbers=[1]), options=options)
        assert [error["category"] for error in after.errors] == ["result_too_large"]

    async def test_a_result_is_measured_in_bytes_also_by_the_ledger(self):
        async def umlauts(_state: Any, _call: Any) -> Any:
            return {"note": "é" * 300}

        graph = numbers_graph(instance_middleware=[umlauts], error_policy="collect", errors_field="errors")
        async with asyncio.timeout(5):
            after = await graph.invoke(Numbers(numbers=[1]), options=Options(owner="me", max_item_bytes=500))
        assert [error["category"] for error in after.errors] == ["result_too_large"]

    async def test_fail_fast_waits_for_none_that_had_not_begun(self):
        async def fails(_state: Any, _call: Any) -> Any:
            await asyncio.sleep(0.01)
            raise Broken("at once")

        graph = numbers_graph(instance_middleware=[fails], concurrency=None)
        options = Options(owner="me")
        lane = local_lane(graph, options, slots=2)
        async with asyncio.timeout(5):
            with pytest.raises(NodeException):
                await graph.invoke(Numbers(numbers=list(range(40))), lane=lane, options=options)

    @pytest.mark.parametrize(
        "error",
        [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseExceptionGroup("two", [SystemExit(3)])],
        ids=lambda error: type(error).__name__,
    )
    async def test_a_node_that_raises_what_ends_programs_ends_its_instance_and_no_more(self, error):
        async def exits(state: Any, call: Any) -> Any:
            if state.number == 1:
                raise error
            return await call(state)

        graph = numbers_graph(instance_middleware=[exits], error_policy="collect", errors_field="errors")
        after = await graph.invoke(Numbers(numbers=[0, 1, 2]))
        assert (after.squares, len(after.errors)) == ([0, 4], 1)


class TestFanOutResume:
    async def test_recorded_instances_roll_forward_and_failed_ones_run_again(self):
        breaker, store = Breaker(3), MemoryStore()
        graph = squares_graph(breaker, concurrency=1)
        with pytest.raises(NodeException):
            await graph.invoke(Numbers(numbers=[1, 2, 3, 4]), checkpointer=store, invocation_id="r")
        breaker.mend()
        after = await graph.invoke(resume_invocation="r", checkpointer=store)
        assert (after.squares, after.notes) == ([1, 4, 9, 16], ["n1", "n2", "n3", "n4"])
        assert breaker.calls == {3: 1, 4: 1}
        assert (await verify(store, "r")).ok

    async def test_collected_failures_roll_forward_too(self):
        breaker, store = Breaker(), MemoryStore()
        graph = self.two_steps(breaker)
        breaker.broken.add("after")
        with pytest.raises(NodeException):
            await graph.invoke(Numbers(numbers=[1, -1]), checkpointer=store, invocation_id="r")
        breaker.mend()
        after = await graph.invoke(resume_invocation="r", checkpointer=store)
        assert (after.squares, len(after.errors), after.count) == ([1], 1, 2)
        assert breaker.calls == {"after": 1}

    async def test_another_number_of_items_is_refused_before_any_work(self):
        breaker, store = Breaker(2), MemoryStore()
        count = 3
        graph = squares_graph(breaker, items_field=None, count=lambda _state: count, concurrency=1)
        with pytest.raises(NodeException):
            await graph.invoke(checkpointer=store, invocation_id="r")
        breaker.mend()
        count = 4
        with pytest.raises(CheckpointRecordInvalid):
            await graph.invoke(resume_invocation="r", checkpointer=store)
        assert not breaker.calls

    async def test_each_turn_of_a_loop_has_slots_of_its_own(self):
        breaker, store = Breaker(), MemoryStore()
        graph = self.looping(breaker)
        breaker.broken.add(12)
        with pytest.raises(NodeException):
            await graph.invoke(Numbers(bound=0), checkpointer=store, invocation_id="r")
        breaker.mend()
        after = await graph.invoke(resume_invocation="r", checkpointer=store)
        assert after.squares == [100, 121, 144, 400, 441, 484]
        assert breaker.calls == {12: 1, 20: 1, 21: 1, 22: 1}

    def two_steps(self, breaker: Breaker) -> CompiledGraph[Numbers]:
        async def after(_state: Numbers) -> dict[str, Any]:
            breaker.called("after")
            return {}

        wide = numbers_graph(error_policy="collect", errors_field="errors").fan_out_at(["squares"])
        options = {name: getattr(wide, name) for name in wide.__slots__ if name != "name"}
        return (
            GraphBuilder(Numbers)
            .add_fan_out_node("squares", **options)
            .add_node("after", after)
            .set_entry("squares")
            .add_edge("squares", "after")
            .add_edge("after", END)
            .compile("two-steps")
        )

    def looping(self, breaker: Breaker) -> CompiledGraph[Numbers]:
        async def refill(state: Numbers) -> dict[str, Any]:
            turn = state.bound + 1
            return {"numbers": [10 * turn, 10 * turn + 1, 10 * turn + 2], "bound": turn}

        wide = squares_graph(breaker, concurrency=1).fan_out_at(["squares"])
        options = {name: getattr(wide, name) for name in wide.__slots__ if name != "name"}
        return (
            GraphBuilder(Numbers)
            .add_node("refill", refill)
            .add_fan_out_node("squares", **options)
            .set_entry("refill")
            .add_edge("refill", "squares")
            .add_conditional_edge("squares", lambda state: END if state.bound == 2 else "refill")
            .compile("looping")
        )


class Group(State):
    numbers: list[int] = []
    offset: int = 0
    squares: Annotated[list[int], append] = []
    total: int = 0


class Groups(State):
    groups: list[list[int]] = []
    totals: Annotated[list[int], append] = []


def groups_graph(breaker: Breaker, **outer: Any) -> CompiledGraph[Groups]:
    async def total(state: Group) -> dict[str, Any]:
        return {"total": sum(state.squares)}

    wide = squares_graph(breaker, concurrency=2).fan_out_at(["squares"])
    options: dict[str, Any] = {name: getattr(wide, name) for name in wide.__slots__ if name != "name"}
    options |= {"extra_outputs": {}, "count_field": None}
    group = (
        GraphBuilder(Group)
        .add_fan_out_node("squares", **options)
        .add_node("total", total)
        .set_entry("squares")
        .add_edge("squares", "total")
        .add_edge("total", END)
        .compile("group")
    )
    return (
        GraphBuilder(Groups)
        .add_fan_out_node(
            "groups",
            subgraph=group,
            items_field="groups",
            item_field="numbers",
            collect_field="total",
            target_field="totals",
            **outer,
        )
        .set_entry("groups")
        .add_edge("groups", END)
        .compile("groups")
    )


class TestNestedFanOut:
    @pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
    async def test_it_runs_inside_each_outer_instance(self, run_on):
        store = MemoryStore()
        graph = groups_graph(Breaker(), run_on=run_on)
        first = Groups(groups=[[1, 2], [3], [4, 5, 6]])
        after = await graph.invoke(first, checkpointer=store, invocation_id="r")
        assert after.totals == [5, 9, 77]
        proof = await verify(store, "r")
        assert proof.ok
        assert len(proof.fan_outs) == 4

    async def test_stepped_by_the_orchestrator_a_resume_runs_only_the_missing_inner_instances(self):
        breaker, store = Breaker(5), MemoryStore()
        graph = groups_graph(breaker, run_on="orchestrator", concurrency=1)
        with pytest.raises(NodeException):
            await graph.invoke(Groups(groups=[[1, 2], [4, 5, 6], [7]]), checkpointer=store, invocation_id="r")
        breaker.mend()
        after = await graph.invoke(resume_invocation="r", checkpointer=store)
        assert after.totals == [5, 77, 49]
        assert set(breaker.calls) <= {5, 6, 7}
        assert (await verify(store, "r")).ok

    async def test_a_failure_inside_reaches_the_outer_fan_out(self):
        graph = groups_graph(Breaker(5), error_policy="collect")
        after = await graph.invoke(Groups(groups=[[1, 2], [4, 5, 6], [7]]))
        assert after.totals == [5, 49]


class TestOwnership:
    def orchestrator(self, store: MemoryStore, graph: CompiledGraph[Any], owner: str) -> Orchestrator:
        options = Options(owner=owner, lease=timedelta(seconds=5), renew_every=timedelta(seconds=0.02))
        return Orchestrator(
            store, lane=local_lane(graph, options), options=options, is_dead=lambda text: text.startswith("dead")
        )

    def waiting(self) -> tuple[CompiledGraph[Numbers], asyncio.Event]:
        begun = asyncio.Event()

        async def wait(state: Any, call: Any) -> Any:
            if state.number == 2 and not begun.is_set():
                begun.set()
                await asyncio.sleep(60)
            return await call(state)

        return numbers_graph(instance_middleware=[wait], concurrency=1), begun

    async def test_a_second_driver_of_a_live_run_is_refused(self):
        store, (graph, begun) = MemoryStore(), self.waiting()
        one, other = (self.orchestrator(store, graph, owner) for owner in ("one", "other"))
        await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        handle = await one.start("r", graph)
        await begun.wait()
        with pytest.raises(RunIsDriven, match="one"):
            await other.start("r", graph)
        await handle.detach()

    async def test_the_run_of_a_dead_owner_is_taken_at_once_and_the_old_one_is_fenced(self):
        store, (graph, begun) = MemoryStore(), self.waiting()
        one, other = (self.orchestrator(store, graph, owner) for owner in ("dead-one", "other"))
        await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        old = await one.start("r", graph)
        await begun.wait()
        new = await other.start("r", graph)
        assert (await new.result()).squares == [1, 4, 9]
        with pytest.raises(Fenced):
            await old.result()

    async def test_a_detached_run_is_submitted_again_and_goes_on_elsewhere(self):
        store, (graph, begun) = MemoryStore(), self.waiting()
        one, other = (self.orchestrator(store, graph, owner) for owner in ("one", "other"))
        await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        handle = await one.start("r", graph)
        await begun.wait()
        await handle.detach()
        assert (await store.find("r")).status is RunStatus.SUBMITTED
        assert (await (await other.start("r", graph)).result()).squares == [1, 4, 9]

    async def test_a_run_that_is_cancelled_while_it_is_taken_up_stays_cancelled(self):
        graph, _ = self.waiting()

        class Racing(MemoryStore):
            async def acquire(self, run_id: str, owner: str, **how: Any) -> Any:
                await self.request_cancel(run_id)
                return await super().acquire(run_id, owner, **how)

        store = Racing()
        one = self.orchestrator(store, graph, "one")
        await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        with pytest.raises(RunCancelled):
            await (await one.start("r", graph)).result()
        assert (await store.find("r")).status is RunStatus.CANCELLED

    @pytest.mark.parametrize("ends_as", [RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.FAILED])
    async def test_a_run_that_another_brings_to_its_end_while_it_is_taken_up_stays_as_it_is(self, ends_as):
        graph, _ = self.waiting()

        class Racing(MemoryStore):
            async def acquire(self, run_id: str, owner: str, **how: Any) -> Any:
                won = await super().acquire(run_id, "another", invocation_id="its", lease=timedelta(minutes=1))
                await self.finish(won, ends_as)
                return await super().acquire(run_id, owner, **how)

        store = Racing()
        one = self.orchestrator(store, graph, "one")
        await one.submit(graph, Numbers(numbers=[1]), run_id="r")
        if ends_as is RunStatus.SUCCEEDED:
            assert (await (await one.start("r", graph)).result()).numbers == [1]
        else:
            with pytest.raises(RunCancelled if ends_as is RunStatus.CANCELLED else RunIsDriven):
                await one.start("r", graph)
        assert (await store.find("r")).status is ends_as

    async def test_a_run_that_was_owned_since_it_was_seen_is_not_driven(self):
        store, (graph, begun) = MemoryStore(), self.waiting()
        one = self.orchestrator(store, graph, "one")
        seen = await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        handle = await one.start("r", graph, seen=Seen(seen.epoch))
        await begun.wait()
        await handle.detach()
        with pytest.raises(RunIsDriven):
            await one.start("r", graph, seen=Seen(seen.epoch))
        assert (await store.find("r")).status is RunStatus.SUBMITTED

    @pytest.mark.parametrize("by", ["handle", "store"])
    async def test_a_cancelled_run_ends_and_keeps_what_is_recorded(self, by):
        store, (graph, begun) = MemoryStore(), self.waiting()
        one = self.orchestrator(store, graph, "one")
        await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        handle = await one.start("r", graph)
        await begun.wait()
        await (handle.cancel() if by == "handle" else store.request_cancel("r"))
        async with asyncio.timeout(5):
            with pytest.raises(RunCancelled):
                await handle.result()
        run, rows = await store.find("r"), await store.fan_outs("r")
        assert run.status is RunStatus.CANCELLED
        assert [row.report.slot.index async for row in store.slots("r", rows[0].id)] == [0]
        with pytest.raises(RunCancelled):
            await one.start("r", graph)

    async def test_whoever_cancelled_a_run_and_does_not_ask_for_its_result_is_told_nothing(self):
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: told.append(what))
        store, (graph, begun) = MemoryStore(), self.waiting()
        one = self.orchestrator(store, graph, "one")
        await one.submit(graph, Numbers(numbers=[1, 2, 3]), run_id="r")
        handle = await one.start("r", graph)
        await begun.wait()
        await handle.cancel()
        assert (await store.find("r")).status is RunStatus.CANCELLED
        del handle
        gc.collect()
        assert told == []


async def test_an_instance_knows_its_index():
    seen: list[int | None] = []

    async def look(state: Any, call: Any) -> Any:
        seen.append(current_fan_out_index())
        return await call(state)

    await numbers_graph(instance_middleware=[look]).invoke(Numbers(numbers=[7, 8, 9]))
    assert sorted(index for index in seen if index is not None) == [0, 1, 2]
