"""Our own clients make no spans, whatever users have instrumented in the process that they share with us."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from backends.opening import open_logs, open_status, open_store
from orchestrator.capture.log_store import LogFilter
from orchestrator.status.store import StatusFilter
from tests.contract.checkpoint_case import fill
from tests.contract.ledger_case import redis_case, slot
from tests.contract.test_log_store import row as log_row
from tests.contract.test_status_store import row as status_row
from tests.unit.tracing import Traced

COMMANDS = (
    (redis.Redis, "execute_command"),
    (redis.client.Pipeline, "execute"),
    (redis.asyncio.Redis, "execute_command"),
    (redis.asyncio.client.Pipeline, "execute"),
)
"""What the instrumentation of Redis puts itself around."""


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """Has the spans of SQLAlchemy, and those that Redis would have."""
    traced = Traced()
    tracer = traced.observer.provider.get_tracer("redis")

    def seen(command: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *told: Any, **more: Any) -> Any:
            if is_instrumentation_enabled():
                tracer.start_span(str(told[:1] or "pipeline")).end()
            return command(self, *told, **more)

        return call

    for client, name in COMMANDS:
        monkeypatch.setattr(client, name, seen(getattr(client, name)))
    instrumentor: Any = SQLAlchemyInstrumentor()
    instrumentor.instrument(tracer_provider=traced.observer.provider)
    yield traced
    instrumentor.uninstrument()


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")


async def test_stores_make_no_spans(url: str, traced: Traced) -> None:
    store = open_store(url, namespace="untraced")
    await fill(store)
    await store.close()
    logs = open_logs(url, namespace="untraced")
    await logs.append([log_row("one", run_id="run-1")])
    assert (await logs.read("run-1", LogFilter(), after=0, limit=1))[0]
    await logs.close()
    status = open_status(url, namespace="untraced")
    await status.append([status_row(run_id="run-1")])
    assert await status.read(StatusFilter("run-1"))
    await status.close()
    assert {span.name for span in traced.spans} == set()


async def test_a_ledger_makes_no_spans(redis_url: str, traced: Traced) -> None:
    async for case in redis_case(redis_url):
        traced.forget()
        await case.opened(slot(0))
        case.claim(slot(0))
        case.report(slot(0))
        assert await case.reports(0.1)
        case.worker.release("o", has_died=False)
        await case.sweep(slot(0))
    assert {span.name for span in traced.spans} == set()
