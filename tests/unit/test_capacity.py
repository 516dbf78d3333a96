"""What the live workers can take, as last seen."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.errors import LedgerUnavailable
from orchestrator.execution.executor import Capacity
from workers import capacity
from workers.capacity import CapacityBoard


class Registry:
    """A registry that counts looks, and can be away or slow."""

    def __init__(self, *workers):
        self.seen = list(workers)
        self.looks = 0
        self.is_away = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def workers(self):
        self.looks += 1
        self.may_answer.wait(10)
        if self.is_away:
            raise LedgerUnavailable("away")
        return self.seen


def a_registry(*workers) -> Any:
    return Registry(*workers)


def a_worker(slots, free, *graphs):
    return {"worker": "w", "slots": slots, "free": free, "graphs": [list(graph) for graph in graphs]}


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_only_workers_with_this_version_of_the_graph_count(threads):
    registry = a_registry(
        a_worker(4, 1, ("g", "1")), a_worker(2, 2, ("g", "1"), ("h", "1")), a_worker(8, 8, ("g", "2"))
    )
    board = CapacityBoard(registry, threads)
    assert await board.of("g", "1") == Capacity(slots=6, free=3)
    assert await board.of("h", "1") == Capacity(slots=2, free=2)
    assert await board.of("h", "2") == Capacity(slots=0, free=0)
    await board.close()


async def test_the_registry_is_looked_at_once_a_second_at_most(threads):
    registry = a_registry(a_worker(4, 1, ("g", "1")))
    board = CapacityBoard(registry, threads)
    for _ in range(100):
        await board.of("g", "1")
    await board.close()
    assert registry.looks == 1


async def test_a_slow_registry_holds_nobody_up_after_the_first_look(threads, monkeypatch):
    monkeypatch.setattr(capacity, "LOOK_EVERY_SECONDS", 0.0)
    registry = a_registry(a_worker(4, 1, ("g", "1")))
    board = CapacityBoard(registry, threads)
    await board.of("g", "1")
    registry.may_answer.clear()
    assert await board.of("g", "1") == Capacity(slots=4, free=1)
    assert await board.of("g", "1") == Capacity(slots=4, free=1)
    registry.may_answer.set()
    await board.close()


async def test_while_the_registry_is_away_what_was_seen_last_counts(threads, monkeypatch):
    monkeypatch.setattr(capacity, "LOOK_EVERY_SECONDS", 0.0)
    registry = a_registry(a_worker(4, 1, ("g", "1")))
    board = CapacityBoard(registry, threads)
    await board.of("g", "1")
    registry.is_away = True
    await board.of("g", "1")
    await board.close()
    assert await board.of("g", "1") == Capacity(slots=4, free=1)
    await board.close()
    assert registry.looks >= 2


@pytest.mark.parametrize("graphs", [None, 1, "gf", [1], [None, ["g", "f"]], {"g": "f"}])
def test_a_worker_that_tells_nonsense_of_its_graphs_has_what_is_left_of_them(graphs):
    assert capacity.has_graph({"graphs": graphs}, "g", "f") == (isinstance(graphs, list) and ["g", "f"] in graphs)
