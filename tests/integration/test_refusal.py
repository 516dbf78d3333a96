"""A worker shows that it refuses messages."""

import pytest

from tests.service.worker import WorkerProcess, wait_until
from workers.application import build_app
from workers.opening import open_worker_ledger
from workers.settings import Settings
from workers.tasks import TASK_NAME


def publish(settings: Settings, text: str, *, queue: str) -> None:
    """Publish as somebody would who can reach the broker."""
    app = build_app(settings)
    message = app.amqp.as_task_v2("an-id", TASK_NAME, args=(text,))
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        producer.publish(message.body, routing_key=queue, headers=message.headers, **message.properties)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_logs_and_counts_what_it_refuses(pool, redis_url, tmp_path):
    settings = Settings(redis_url=redis_url, broker_url=redis_url)
    registry = open_worker_ledger(settings)
    environment = {"ROLLFORWARD_SECRET": "another"}
    worker = WorkerProcess(
        tmp_path, redis_url=redis_url, graphs=["tests.graph.tiny"], pool=pool, environment=environment
    )
    try:
        worker.start()
        [facts] = registry.workers()
        assert facts["refused_messages"] == 0
        assert isinstance(facts["queues"], list)
        for _ in range(2):
            publish(settings, "no-seal {}", queue=facts["queues"][0])
        wait_until(lambda: [found["refused_messages"] for found in registry.workers()] == [2], what="two are counted")
    finally:
        worker.discard()
        registry.close()
    warnings = [line for line in worker.log.read_text().splitlines() if "message refused" in line]
    assert len(warnings) == 2
    assert all("WARNING" in line or "warning" in line for line in warnings)
