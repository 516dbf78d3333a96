"""Every line that an orchestrator logs of a run says which run, and where in it that is known."""

import asyncio
import logging
from datetime import timedelta

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.errors import CheckpointUnavailable
from orchestrator.execution.lane import Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.fan_out import recorder
from orchestrator.ledger.memory import MemoryLedger
from rollforward import CorrelationFilter
from rollforward.server import Server
from tests.unit.graph_of_numbers import Numbers, numbers_graph
from tests.unit.test_recorder import LosingExecutor, Unsteady, lane, runtime
from tests.unit.test_server import assembly

GRAPH = numbers_graph(concurrency=4, error_policy="collect", key=str)
OF_RUN = {"run_id": "r", "invocation_id": "r", "correlation_id": "c"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SWEEP_SECONDS", 0.01)


@pytest.fixture
def lines(caplog):
    """The records as a process has them that logs by our rules."""
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(CorrelationFilter())

    def named(message):
        return [record.__dict__ for record in caplog.records if record.getMessage() == message]

    return named


async def test_what_is_logged_beside_the_nodes_names_the_run_too(lines):
    ledger = MemoryLedger()
    killer = LosingExecutor(ledger, runtime(), loses=lambda hint: hint.index == 1, kills=True)
    store = Unsteady(MemoryStore(), lambda: CheckpointUnavailable("away"), record_losses=1, renew=1)
    options = Options(owner="me", renew_every=timedelta(milliseconds=5))
    orchestrator = Orchestrator(store, lane=lane(ledger, killer), options=options)
    await orchestrator.submit(GRAPH, Numbers(numbers=[5, 7]), run_id="r", correlation_id="c")
    async with asyncio.timeout(20):
        await (await orchestrator.start("r", GRAPH)).result()
    for message in ("lease not renewed", "waiting for a service", "delivery lost"):
        assert lines(message)
        assert all(line.items() >= OF_RUN.items() for line in lines(message))
    place = {"node": "squares", "index": 1, "item_key": "7", "delivery": 1}
    assert lines("delivery lost")[0].items() >= place.items()


async def test_a_server_says_which_run_it_took_and_how_many_instances_failed_in_it(lines):
    store = MemoryStore()
    ours = assembly(store, timedelta(seconds=10))
    graph = numbers_graph(error_policy="collect")
    await ours.orchestrator.submit(graph, Numbers(numbers=[1, -1, -1]), run_id="r", correlation_id="c")
    server = Server(ours, most=1)
    async with asyncio.timeout(10):
        while not lines("run succeeded"):
            await server.look()
            await asyncio.sleep(0.01)
    (taken,), (ended,) = lines("run taken"), lines("run succeeded")
    assert taken.items() >= (OF_RUN | {"graph": graph.name}).items()
    assert ended.items() >= (OF_RUN | {"graph": graph.name, "failed": 2}).items()
