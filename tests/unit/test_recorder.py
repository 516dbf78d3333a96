"""The loop between ledger and record, while services go away and come back, and messages and workers are lost."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.verify import verify
from orchestrator.errors import BrokerUnavailable, CheckpointUnavailable, Fenced, LedgerUnavailable, NodeException
from orchestrator.execution import patience
from orchestrator.execution.executor import Capacity, Hint
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.lease import keep_lease
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.fan_out import recorder, sweeping
from orchestrator.graph.builder import GraphBuilder
from orchestrator.identity import Slot
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import Sweep
from orchestrator.middleware.retry import RetryMiddleware, deterministic_backoff
from tests.contract.checkpoint_case import owned
from tests.unit.graph_of_numbers import Number, Numbers, numbers_graph, square

GRAPH = numbers_graph(concurrency=4)
ITEMS = list(range(12))
SQUARES = [number**2 for number in ITEMS]


class Unsteady:
    """Stands before a service and fails chosen methods a number of times, before or after they have acted."""

    def __init__(self, service: Any, error: Callable[[], Exception], *, after: bool = False, **times: int) -> None:
        self._service = service
        self._error = error
        self._after = after
        self.left = times

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._service, name)
        if name not in self.left:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.left[name] <= 0:
                return await method(*args, **kwargs)
            self.left[name] -= 1
            if self._after:
                await method(*args, **kwargs)
            raise self._error()

        return call


class Replaceable:
    """A ledger that can be replaced by an empty one, as FLUSHALL does."""

    def __init__(self) -> None:
        self.current = MemoryLedger()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)


class LosingExecutor(LocalExecutor):
    """Loses what `loses` says, as a broker or a worker would; `slots` are those it admits to have."""

    def __init__(
        self,
        *args: Any,
        loses: Callable[[Hint], bool],
        kills: bool = False,
        in_company: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._loses = loses
        self._kills = kills
        self._in_company = in_company
        self._ledger_of_victims = args[0]

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        kept = []
        for hint in hints:
            if not self._loses(hint):
                kept.append(hint)
            elif self._kills:
                slot = Slot(hint.fan_out, hint.index, hint.generation)
                owner = f"victim-{hint.index}"
                self._ledger_of_victims.claim(
                    hint.run_id,
                    [slot],
                    owner=owner,
                    token=secrets.token_hex(16),
                    ttl_seconds=60,
                    in_company=self._in_company,
                )
                self._ledger_of_victims.release(owner, has_died=True)
        await super().dispatch(kept)


def lane(ledger: Any = None, executor: Any = None) -> Lane:
    ledger = ledger or MemoryLedger()
    return Lane(ledger=ledger, executor=executor or LocalExecutor(ledger, runtime()))


def runtime() -> Runtime:
    return Runtime(worker="here", find=lambda _name, _fingerprint: GRAPH)


async def run(store: Any, where: Lane, **options: Any) -> tuple[Any, Any]:
    """Run the squares; the last state and the proof."""
    orchestrator = Orchestrator(store, lane=where, options=Options(owner="me", **options))
    await orchestrator.submit(GRAPH, Numbers(numbers=ITEMS), run_id="r")
    async with asyncio.timeout(20):
        after = await (await orchestrator.start("r", GRAPH)).result()
    return after, await verify(store, "r")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait, turn by turn of the loop."""
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


async def resumed(store: Any, where: Lane) -> tuple[Any, Any]:
    """Go on with the squares; the last state and the proof."""
    orchestrator = Orchestrator(store, lane=where, options=Options(owner="another"))
    async with asyncio.timeout(20):
        after = await (await orchestrator.start("r", GRAPH)).result()
    return after, await verify(store, "r")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep and try again soon: what is tested is that it is done, not when."""
    monkeypatch.setattr(recorder, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(patience, "RETRY_SECONDS", (0.001,))
    monkeypatch.setattr(sweeping, "DECLINE_SECONDS", (0.001,))


class TestServicesThatGoAway:
    @pytest.mark.parametrize("after", [False, True], ids=["before it acts", "after it has acted"])
    @pytest.mark.parametrize("method", ["record", "save_step", "open_fan_out", "steps", "renew", "finish"])
    async def test_a_store_that_fails_is_asked_again(self, method, after):
        store = Unsteady(MemoryStore(), lambda: CheckpointUnavailable("away"), after=after, **{method: 2})
        state, proof = await run(store, lane(), renew_every=timedelta(seconds=0.005))
        assert (state.squares, proof.ok) == (SQUARES, True)
        assert store.left[method] == 0 or method == "renew"

    @pytest.mark.parametrize("after", [False, True], ids=["before it acts", "after it has acted"])
    @pytest.mark.parametrize("method", ["open", "queue", "reports", "close", "sweep", "forget"])
    async def test_a_ledger_that_fails_is_asked_again(self, method, after):
        ledger = MemoryLedger()
        unsteady = Unsteady(ledger, lambda: LedgerUnavailable("away"), after=after, **{method: 2})
        where = lane(unsteady, LocalExecutor(ledger, runtime()))
        state, proof = await run(MemoryStore(), where, instance_lease=timedelta(seconds=0.001))
        assert (state.squares, proof.ok) == (SQUARES, True)
        assert unsteady.left[method] == 0 or method in ("sweep", "forget")

    async def test_a_lease_is_renewed_also_after_an_error_that_nobody_expected(self):
        kept, asked = MemoryStore(), list[None]()
        store: Any = Unsteady(kept, lambda: ZeroDivisionError("unexpected"), renew=1)
        often = Options(owner="me", renew_every=timedelta(0))
        keeping = keep_lease(store, await owned(kept), often, health=lambda: asked.append(None), stop=lambda _: None)
        renewing = asyncio.create_task(keeping)
        await until(lambda: len(asked) >= 3 or renewing.done())
        assert not renewing.done()
        renewing.cancel()

    async def test_a_broker_that_fails_is_told_again(self):
        ledger = MemoryLedger()
        executor = Unsteady(LocalExecutor(ledger, runtime()), lambda: BrokerUnavailable("away"), dispatch=3)
        state, proof = await run(MemoryStore(), lane(ledger, executor))
        assert (state.squares, proof.ok, executor.left["dispatch"]) == (SQUARES, True, 0)

    async def test_a_store_that_belongs_to_another_ends_the_drive(self):
        store = Unsteady(MemoryStore(), lambda: Fenced("r", 1), record=1)
        with pytest.raises(Fenced):
            await run(store, lane())

    async def test_a_ledger_that_was_emptied_is_filled_from_the_record(self):
        ledger = Replaceable()

        class Emptying(LocalExecutor):
            emptied = 0

            async def dispatch(self, hints: Sequence[Hint]) -> None:
                if self.emptied < 2:
                    self.emptied += 1
                    ledger.current = MemoryLedger()
                await super().dispatch(hints)

        state, proof = await run(MemoryStore(), lane(ledger, Emptying(ledger, runtime())))
        assert (state.squares, proof.ok) == (SQUARES, True)

    async def test_what_is_committed_when_the_ledger_is_emptied_does_not_run_again(self):
        ledger, store, calls = Replaceable(), MemoryStore(), Counter[int]()

        async def count(state: Any, call: Any) -> Any:
            calls[state.number] += 1
            return await call(state)

        graph = numbers_graph(concurrency=4, instance_middleware=[count])
        runs = Runtime(worker="here", find=lambda _name, _fingerprint: graph)

        class EmptyingStore(Unsteady):
            async def record(self, *args: Any) -> int:
                recorded: int = await store.record(*args)
                ledger.current = MemoryLedger()
                return recorded

        where = lane(ledger, LocalExecutor(ledger, runs))
        orchestrator = Orchestrator(EmptyingStore(store, Exception), lane=where, options=Options(owner="me"))
        await orchestrator.submit(graph, Numbers(numbers=ITEMS), run_id="r")
        async with asyncio.timeout(20):
            after = await (await orchestrator.start("r", graph)).result()
        assert after.squares == SQUARES
        assert set(calls.values()) == {1}

    async def test_a_broker_that_is_away_keeps_nothing_from_being_recorded(self):
        ledger, store = MemoryLedger(), MemoryStore()
        told, is_back = 0, False

        class Breaking(LocalExecutor):
            async def dispatch(self, hints: Sequence[Hint]) -> None:
                nonlocal told
                if told and not is_back:
                    raise BrokerUnavailable("the broker is away")
                told += 1
                await super().dispatch(hints)

        orchestrator = Orchestrator(store, lane=lane(ledger, Breaking(ledger, runtime())), options=Options(owner="me"))
        await orchestrator.submit(GRAPH, Numbers(numbers=ITEMS), run_id="r")
        handle = await orchestrator.start("r", GRAPH)
        async with asyncio.timeout(20):
            await until(lambda: sum(one.recorded for one in handle.status().fan_outs) >= 4)
            await until(lambda: handle.status().health is not None)
            assert handle.status().health == "dispatch paused: the broker is away"
            is_back = True
            assert (await handle.result()).squares == SQUARES

    async def test_late_reports_of_a_fan_out_that_gave_up_do_not_keep_the_loop_turning(self):
        ledger = MemoryLedger()
        asked = 0

        class Counting(Replaceable):
            async def reports(self, *args: Any, **kwargs: Any) -> Any:
                nonlocal asked
                asked += 1
                return await self.current.reports(*args, **kwargs)

        counting = Counting()
        counting.current = ledger
        begun, hold = asyncio.Event(), asyncio.Event()

        async def stubborn(state: Any, call: Any) -> Any:
            if state.number < 0:
                await begun.wait()
                raise ValueError("at once")
            if state.number == 1:
                begun.set()
                while True:
                    try:
                        await hold.wait()
                        return await call(state)
                    except asyncio.CancelledError:
                        continue
            return await call(state)

        again = RetryMiddleware(max_attempts=2, classifier=lambda *_: True, backoff=deterministic_backoff(0))
        graph = numbers_graph(concurrency=2, instance_middleware=[stubborn], middleware=[again])
        runs = Runtime(worker="here", find=lambda _name, _fingerprint: graph)
        options = Options(owner="me", heartbeat=timedelta(seconds=0.02))
        where = lane(counting, LocalExecutor(ledger, runs))
        orchestrator = Orchestrator(MemoryStore(), lane=where, options=options)
        await orchestrator.submit(graph, Numbers(numbers=[-1, 1]), run_id="r")
        handle = await orchestrator.start("r", graph)
        async with asyncio.timeout(20):
            await until(lambda: len(handle.status().fan_outs) == 2)
            before = asked
            hold.set()
            with pytest.raises(NodeException):
                await handle.result()
        assert asked - before < 50


class TestWhatIsLost:
    async def test_a_message_that_one_queued_later_has_overtaken_is_sent_again(self):
        lost: set[int] = set()

        def loses(hint: Hint) -> bool:
            is_first = hint.index in (1, 4) and hint.index not in lost
            lost.add(hint.index)
            return is_first

        ledger = MemoryLedger()
        where = lane(ledger, LosingExecutor(ledger, runtime(), loses=loses))
        state, proof = await run(MemoryStore(), where, claim_deadline=timedelta(seconds=0.01))
        assert (state.squares, proof.ok, proof.fan_outs[0].executions) == (SQUARES, True, len(ITEMS))

    async def test_a_long_queue_is_not_taken_for_a_loss(self):
        told: list[int] = []

        class Busy(LocalExecutor):
            async def dispatch(self, hints: Sequence[Hint]) -> None:
                told.extend(hint.index for hint in hints)
                await super().dispatch(hints)

            async def capacity(self, graph: str, fingerprint: str) -> Capacity:
                return Capacity(slots=1, free=0)

            def _start(self, run_id: str, slots: Sequence[Slot]) -> None:
                asyncio.get_running_loop().call_later(0.1, super()._start, run_id, slots)

        ledger = MemoryLedger()
        where = lane(ledger, Busy(ledger, runtime()))
        await run(MemoryStore(), where, claim_deadline=timedelta(seconds=0.001))
        assert sorted(told) == ITEMS

    async def test_an_instance_whose_worker_died_runs_again_and_the_loss_is_kept(self):
        killed: set[int] = set()

        def kills(hint: Hint) -> bool:
            is_first = hint.index in (0, 7) and hint.index not in killed
            killed.add(hint.index)
            return is_first

        ledger, store = MemoryLedger(), MemoryStore()
        where = lane(ledger, LosingExecutor(ledger, runtime(), loses=kills, kills=True))
        state, proof = await run(store, where)
        assert (state.squares, proof.ok) == (SQUARES, True)
        losses = await store.losses("r", proof.fan_outs[0].row.id)
        assert sorted((loss.slot.index, loss.worker) for loss in losses) == [(0, "victim-0"), (7, "victim-7")]

    @pytest.mark.parametrize(("in_company", "deliveries"), [(False, 3), (True, 3 * sweeping.COMPANY_FACTOR)])
    async def test_an_instance_that_kills_every_worker_is_given_up(self, in_company, deliveries):
        graph = numbers_graph(concurrency=4, error_policy="collect", errors_field="errors")
        ledger, store = MemoryLedger(), MemoryStore()
        runs = Runtime(worker="here", find=lambda _name, _fingerprint: graph)
        executor = LosingExecutor(ledger, runs, loses=lambda hint: hint.index == 5, kills=True, in_company=in_company)
        options = Options(owner="me", max_deliveries=3)
        orchestrator = Orchestrator(store, lane=lane(ledger, executor), options=options)
        await orchestrator.submit(graph, Numbers(numbers=ITEMS), run_id="r")
        async with asyncio.timeout(20):
            after = await (await orchestrator.start("r", graph)).result()
        assert after.squares == [square for square in SQUARES if square != 25]
        assert [(error["fan_out_index"], error["category"]) for error in after.errors] == [("5", "instance_lost")]
        losses = await store.losses("r", (await store.fan_outs("r"))[0].id)
        assert [loss.is_charged for loss in losses] == [not in_company] * deliveries

    async def test_a_resume_gives_an_instance_that_was_given_up_all_its_deliveries_again(self):
        store = MemoryStore()

        def killing(times: int) -> Lane:
            """A lane that takes so many deliveries of the fifth instance with it."""
            left = [5] * times

            def loses(hint: Hint) -> bool:
                return hint.index == 5 and bool(left) and left.pop() == 5

            ledger = MemoryLedger()
            return lane(ledger, LosingExecutor(ledger, runtime(), loses=loses, kills=True))

        with pytest.raises(NodeException):
            await run(store, killing(3), max_deliveries=3)
        after, proof = await resumed(store, killing(2))
        assert (after.squares, proof.ok) == (SQUARES, True)
        assert [row.report.delivery async for row in store.slots("r", proof.fan_outs[0].row.id, start=5, stop=6)] == [6]

    async def test_after_the_ledger_was_lost_the_deliveries_are_counted_on(self):
        store, ledger = MemoryStore(), Replaceable()
        killed = Counter[int]()

        class WipedAfterTheSecondLoss(LosingExecutor):
            async def dispatch(self, hints: Sequence[Hint]) -> None:
                if killed.total() == 2 and any(hint.index == 5 for hint in hints):
                    ledger.current = MemoryLedger()
                await super().dispatch(hints)

        def loses(hint: Hint) -> bool:
            if hint.index == 5:
                killed[5] += 1
            return hint.index == 5

        graph = numbers_graph(concurrency=4, error_policy="collect", errors_field="errors")
        runs = Runtime(worker="here", find=lambda _name, _fingerprint: graph)
        executor = WipedAfterTheSecondLoss(ledger, runs, loses=loses, kills=True)
        orchestrator = Orchestrator(store, lane=lane(ledger, executor), options=Options(owner="me", max_deliveries=3))
        await orchestrator.submit(graph, Numbers(numbers=ITEMS), run_id="r")
        async with asyncio.timeout(20):
            await (await orchestrator.start("r", graph)).result()
        losses = await store.losses("r", (await store.fan_outs("r"))[0].id)
        assert [loss.delivery for loss in losses] == [1, 2, 3]
        # One hint found the ledger empty.
        assert killed == {5: len(losses) + 1}

    async def test_a_dead_owners_lapse_found_at_a_takeover_is_kept_as_a_loss(self):
        ledger, store = MemoryLedger(), MemoryStore()
        killed = set[int]()

        def kills(hint: Hint) -> bool:
            is_first = hint.index == 2 and not killed
            killed.add(hint.index)
            return is_first

        executor = LosingExecutor(ledger, runtime(), loses=lambda hint: hint.index == 2 and kills(hint), kills=True)
        first = Orchestrator(store, lane=lane(ledger, executor), options=Options(owner="one"))
        await first.submit(GRAPH, Numbers(numbers=ITEMS), run_id="r")
        handle = await first.start("r", GRAPH)
        await until(lambda: bool(killed))
        await handle.detach()
        after, _ = await resumed(store, lane(ledger, LocalExecutor(ledger, runtime())))
        assert after.squares == SQUARES
        losses = await store.losses("r", (await store.fan_outs("r"))[0].id)
        assert [(loss.slot.index, loss.delivery) for loss in losses] == [(2, 1)]

    async def test_an_instance_that_kills_a_shared_process_is_found_by_running_it_alone(self):
        graph = numbers_graph(concurrency=4, error_policy="collect", errors_field="errors")
        ledger, store = MemoryLedger(), MemoryStore()
        runs = Runtime(worker="here", find=lambda _name, _fingerprint: graph)

        class Shared(LocalExecutor):
            """One process for all: the poisonous instance takes those with it that were dispatched together."""

            async def dispatch(self, hints: Sequence[Hint]) -> None:
                if not any(hint.index == 5 for hint in hints):
                    await super().dispatch(hints)
                    return
                slots = [Slot(hint.fan_out, hint.index, hint.generation) for hint in hints]
                owner = token = secrets.token_hex(16)
                ledger.claim("r", slots, owner=owner, token=token, ttl_seconds=60)
                ledger.release(owner, has_died=True)

        options = Options(owner="me", max_deliveries=2)
        orchestrator = Orchestrator(store, lane=lane(ledger, Shared(ledger, runs)), options=options)
        await orchestrator.submit(graph, Numbers(numbers=ITEMS), run_id="r")
        async with asyncio.timeout(20):
            after = await (await orchestrator.start("r", graph)).result()
        assert after.squares == [square for square in SQUARES if square != 25]
        assert [(error["fan_out_index"], error["category"]) for error in after.errors] == [("5", "instance_lost")]

    async def test_an_instance_that_workers_hand_back_again_and_again_is_not_taken_for_the_culprit(self):
        ledger, stops, long = MemoryLedger(), list(range(5)), list[Hint]()

        class Stopped(LocalExecutor):
            """Is stopped in the middle of the third instance again and again, all the time that the ninth takes."""

            async def dispatch(self, hints: Sequence[Hint]) -> None:
                for hint in hints:
                    if hint.index == 3 and stops:
                        owner, slot = f"stopped-{stops.pop()}", Slot(hint.fan_out, hint.index, hint.generation)
                        ledger.claim("r", [slot], owner=owner, token=secrets.token_hex(16), ttl_seconds=60)
                        ledger.release(owner, has_died=False)
                    elif hint.index == 9:
                        long.append(hint)
                    else:
                        await super().dispatch([hint])
                if not stops and long:
                    await super().dispatch([long.pop()])

        state, proof = await run(MemoryStore(), lane(ledger, Stopped(ledger, runtime())), max_deliveries=2)
        assert (state.squares, proof.ok, stops) == (SQUARES, True, [])

    async def test_a_declined_instance_waits_for_a_worker_that_has_its_graph(self):
        told, sweeps, arrived = Counter[int](), Counter[str](), asyncio.Event()

        class Watched(MemoryLedger):
            async def sweep(self, *given: Any) -> Sweep:
                sweeps["done"] += 1
                return await super().sweep(*given)

        ledger = Watched()

        class OfAnotherVersion(LocalExecutor):
            async def dispatch(self, hints: Sequence[Hint]) -> None:
                told.update(hint.index for hint in hints)
                if arrived.is_set():
                    await super().dispatch(hints)
                    return
                slots = [Slot(hint.fan_out, hint.index, hint.generation) for hint in hints]
                ledger.decline("r", slots, worker="other", reason="no such graph")

            async def capacity(self, graph: str, fingerprint: str) -> Capacity:
                return await super().capacity(graph, fingerprint) if arrived.is_set() else Capacity(slots=0, free=0)

        running = asyncio.create_task(run(MemoryStore(), lane(ledger, OfAnotherVersion(ledger, runtime()))))
        await until(lambda: sweeps["done"] >= 10)
        assert set(told.values()) == {1}
        arrived.set()
        state, proof = await running
        assert (state.squares, proof.ok) == (SQUARES, True)

    async def test_a_declined_instance_is_sent_again_after_a_while(self):
        ledger, declined = MemoryLedger(), set[int]()

        class Declining(LocalExecutor):
            async def dispatch(self, hints: Sequence[Hint]) -> None:
                kept = []
                for hint in hints:
                    if hint.index in declined or hint.index % 5:
                        kept.append(hint)
                        continue
                    declined.add(hint.index)
                    slot = Slot(hint.fan_out, hint.index, hint.generation)
                    ledger.decline(hint.run_id, [slot], worker="old", reason="no such graph")
                await super().dispatch(kept)

        state, proof = await run(MemoryStore(), lane(ledger, Declining(ledger, runtime())))
        assert (state.squares, proof.ok, declined) == (SQUARES, True, {0, 5, 10})


async def test_a_fan_out_after_another_one_waits_for_no_sweep(monkeypatch):
    monkeypatch.setattr("orchestrator.fan_out.recorder.SWEEP_SECONDS", 1000.0)
    number = GraphBuilder(Number).add_node("square", square).set_entry("square").compile()
    options: Any = {"items_field": "numbers", "item_field": "number", "collect_field": "square"}
    builder = GraphBuilder(Numbers).set_entry("one").add_edge("one", "two").add_edge("two", "three")
    for name in ("one", "two", "three"):
        builder.add_fan_out_node(name, subgraph=number, target_field="squares", **options)
    async with asyncio.timeout(30):
        end = await builder.compile().invoke(Numbers(numbers=[1, 2]))
    assert end.squares == [1, 4] * 3
