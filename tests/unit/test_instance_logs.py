"""What instances put out, as observers are told of it and as it is kept."""

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from orchestrator.capture import capture
from orchestrator.capture.log_observer import LoggingObserver
from orchestrator.capture.log_store import LogRow, MemoryLogStore
from orchestrator.errors import CheckpointUnavailable
from orchestrator.execution.lane import Options
from orchestrator.execution.stepping import local_lane
from orchestrator.observers.composite import CompositeObserver
from orchestrator.observers.event import Event, InstanceLogEvent, Phase
from rollforward import current_attempt_index, instance_logger
from tests.unit.test_instance_events import RETRY, Item, Items, Listening, Rows, deep, item_graph, told_soon, wide

__all__ = ["told_soon"]

say = print


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What instances print is read from where it is kept."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


async def talk(state: Item) -> dict[str, int]:
    say("item", state.item)
    return {"out": state.item}


async def logged(graph: Any, state: Any, **how: Any) -> list[LogRow]:
    """The lines of one run, as an observer has kept them."""
    observer = LoggingObserver(MemoryLogStore())
    await graph.invoke(state, observers=[observer], **{"invocation_id": "r", **how})
    await graph.drain()
    return await observer.get_logs("r")


def texts(rows: list[LogRow]) -> dict[tuple[str, tuple[int, ...]], list[str]]:
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for row in rows:
        found.setdefault((row.node, row.indexes), []).append(row.text)
    return found


async def test_every_line_is_kept_with_its_place():
    rows = await logged(wide(talk, key=lambda item: f"k{item}"), Items(items=[5, 6]))
    assert texts(rows) == {("each", (0,)): ["item 5"], ("each", (1,)): ["item 6"]}
    assert [(row.key, row.delivery, row.number, row.run_id, row.stream) for row in rows] == [
        ("k5", 1, 1, "r", "stdout"),
        ("k6", 1, 1, "r", "stdout"),
    ]
    assert all(row.worker and row.correlation_id for row in rows)


async def test_where_nobody_wants_lines_nothing_is_replaced_and_nothing_is_told():
    streams: list[Any] = []

    async def look(_state: Item) -> dict[str, int]:
        streams.append((sys.stdout, logging.getLogger().level))
        return {}

    seen = Listening(Phase.INSTANCE)
    before = (sys.stdout, logging.getLogger().level)
    graph = wide(look)
    await graph.invoke(Items(items=[1]), observers=[seen])
    await graph.drain()
    assert streams == [before]
    assert not [event for event in seen.events if isinstance(event, InstanceLogEvent)]


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
async def test_what_an_observer_puts_out_is_no_line_of_an_instance(run_on: str):
    async def observe(event: Event) -> None:
        say("told of", event.node_name)
        logging.getLogger("own").warning("told")

    async def talk_later(state: Item) -> dict[str, int]:
        # Till then the start of the fan-out is told, and the end of this is told for itself.
        await asyncio.sleep(0.01)
        return await talk(state)

    graph = wide(talk_later, run_on=run_on)
    graph.attach_observer(observe)
    rows = await logged(graph, Items(items=[5, 6]))
    assert texts(rows) == {("each", (0,)): ["item 5"], ("each", (1,)): ["item 6"]}


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
async def test_nested_instances_have_lines_of_their_own(run_on: str):
    rows = await logged(deep(talk, run_on=run_on), Rows(rows=[[1], [2, 3]]))
    assert texts(rows) == {
        ("rows/each", (0, 0)): ["item 1"],
        ("rows/each", (1, 0)): ["item 2"],
        ("rows/each", (1, 1)): ["item 3"],
    }


@pytest.mark.parametrize("is_plain", [True, False])
async def test_a_line_says_which_node_and_which_try_wrote_it(is_plain: bool):
    def plain(state: Item) -> dict[str, int]:
        say("try", current_attempt_index())
        logging.getLogger("own").warning("logged")
        if current_attempt_index() == 0:
            raise ValueError("not yet")
        say("no end", end="")
        thread = threading.Thread(target=say, args=("by itself",))
        thread.start()
        thread.join()
        return {"out": state.item}

    async def node(state: Item) -> dict[str, int]:
        return plain(state)

    graph = wide(subgraph=item_graph(plain if is_plain else node, middleware=[RETRY]))
    rows = await logged(graph, Items(items=[5]))
    assert [(row.text, row.inner_node, row.attempt) for row in rows] == [
        ("try 0", "each/one", 0),
        ("logged", "each/one", 0),
        ("try 1", "each/one", 1),
        ("logged", "each/one", 1),
        ("no end", "each/one", 1),
    ]


@pytest.mark.parametrize("policy", ["collect", "fail_fast"])
async def test_a_failure_leaves_its_traceback_whatever_the_policy(policy: Any):
    async def fail(state: Item) -> dict[str, int]:
        say("before")
        raise ValueError(f"{state.item} with api_key=abcdef0123456789")

    observer = LoggingObserver(MemoryLogStore())
    graph = wide(fail, error_policy=policy)
    await asyncio.gather(
        graph.invoke(Items(items=[1]), observers=[observer], invocation_id="r"), return_exceptions=True
    )
    await graph.drain()
    said, traceback = await observer.get_logs("r")
    assert (said.text, traceback.level, traceback.stream) == ("before", "ERROR", "log")
    assert "ValueError: 1 with api_key=***" in traceback.text


async def test_a_plain_function_is_heard_in_its_thread():
    def plain(state: Item) -> dict[str, int]:
        say("plain", state.item)
        return {}

    rows = await logged(wide(plain), Items(items=list(range(4))))
    assert texts(rows) == {("each", (index,)): [f"plain {index}"] for index in range(4)}


async def test_a_long_instance_is_heard_of_while_it_runs(told_soon: None):
    go = asyncio.Event()

    async def wait(_state: Item) -> dict[str, int]:
        say("first")
        await go.wait()
        say("second")
        return {}

    class Going(Listening):
        async def __call__(self, event: Any) -> None:
            await super().__call__(event)
            go.set()

    seen = Going(Phase.LOGGED)
    graph = wide(wait)
    await asyncio.wait_for(graph.invoke(Items(items=[1]), observers=[seen]), timeout=10)
    await graph.drain()
    first, second = seen.events
    assert isinstance(first, InstanceLogEvent)
    assert isinstance(second, InstanceLogEvent)
    assert [line.text for event in (first, second) for line in event.lines] == ["first", "second"]
    assert (first.source, first.first_number, second.first_number) == (second.source, 1, 2)


async def test_the_lane_says_how_much_is_taken():
    async def flood(_state: Item) -> dict[str, int]:
        say("x\n" * 10_000)
        return {}

    graph = wide(flood)
    lane = local_lane(graph, Options(owner="o", capture=capture.CaptureOptions(max_bytes=2048)))
    rows = await logged(graph, Items(items=[1]), lane=lane)
    await lane.executor.close()
    assert len(rows) <= 2048 / 32
    assert [row.is_cut for row in rows].count(True) == 1


async def test_the_logger_of_an_instance_says_where_it_is(caplog: pytest.LogCaptureFixture):
    async def log(_state: Item) -> dict[str, int]:
        instance_logger().info("hello")
        return {}

    with caplog.at_level(logging.INFO):
        rows = await logged(wide(log, key=str), Items(items=[7]), correlation_id="c")
    assert [(row.level, row.logger, row.text) for row in rows] == [("INFO", "rollforward.instance", "hello")]
    (record,) = [record for record in caplog.records if record.message == "hello"]
    place = {"node": "each/one", "index": 0, "item_key": "7", "delivery": 1, "attempt": 0}
    facts = {"run_id": "r", "correlation_id": "c", **place}
    assert {name: getattr(record, name) for name in facts} == facts


async def test_every_child_of_a_composite_that_wants_lines_has_them():
    stores = MemoryLogStore(), MemoryLogStore()
    observers = [LoggingObserver(store) for store in stores]
    graph = wide(talk)
    await graph.invoke(Items(items=[1]), observers=[CompositeObserver(*observers)], invocation_id="r")
    await graph.drain()
    assert [[row.text for row in await observer.get_logs("r")] for observer in observers] == [["item 1"]] * 2


async def test_lines_are_written_by_the_end_of_the_run():
    store = MemoryLogStore()
    graph = wide(talk)
    observer = LoggingObserver(store, flush_interval=3600)
    await graph.invoke(Items(items=[1]), observers=[observer], invocation_id="r")
    await graph.drain()
    assert [row.text for row in await LoggingObserver(store).get_logs("r")] == ["item 1"]


async def test_names_that_no_database_can_keep_are_escaped():
    async def log(_state: Item) -> dict[str, int]:
        logging.getLogger("bad\0name").error("said")
        return {"out": 1}

    (row,) = await logged(wide(log, key=lambda _item: "a\0b"), Items(items=[1]))
    assert (row.key, row.logger, row.text) == ("a\\0b", "bad\\0name", "said")


async def test_a_store_that_is_away_disturbs_no_run_and_is_spoken_of(caplog: pytest.LogCaptureFixture):
    class Away(MemoryLogStore):
        async def append(self, _rows: Any) -> None:
            raise CheckpointUnavailable("away")

    observer = LoggingObserver(Away())
    graph = wide(talk)
    done = await graph.invoke(Items(items=[1, 2]), observers=[observer])
    await graph.drain()
    assert (done.outs, observer.health) == ([1, 2], "log lines wait: away")
    await observer.close()
    assert observer.dropped == 2
    assert [record.message for record in caplog.records] == [
        "log lines cannot be written, they wait",
        "log lines dropped, they could not be written by the end",
    ]
