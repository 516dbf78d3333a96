"""What a run says of itself reaches its workers, and what they log says which run and place it belongs to."""

import json

import pytest

from tests.service.cli import CommandLine
from tests.service.worker import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_metadata_holds_on_workers_and_each_log_line_names_its_place(pool, redis_url, tmp_path):
    cli = CommandLine(tmp_path, {"ROLLFORWARD_REDIS_URL": redis_url, "ROLLFORWARD_GRAPHS": "tests.graph.labelled"})
    log = tmp_path / "worker.log"
    with cli.started("worker", "--pool", pool, "-c", "2", "-l", "info", stderr=log) as worker:
        wait_until(lambda: " ready." in log.read_text(), what="the worker is ready", because=log.read_text)
        told = ["--set", 'names=["a","own"]', "--meta", "tenant=acme", "--meta", "seats=42", "--run-id", "r1"]
        ended = cli.ok("run", "tests.graph.labelled:graph", "--executor", "celery", *told, "-o", "json")
        status = cli.ok("status", "r1", "-o", "json").document
        worker.terminate()
        worker.communicate(timeout=30)
    assert status["metadata"] == {"tenant": "acme", "seats": 42}
    state = ended.document["state"]
    assert state["held"] == [{"tenant": "acme", "seats": 42, "name": name} for name in ("a", "own")]
    assert state["after"] == {"tenant": "acme", "seats": 42}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    said = {line["item_key"]: line for line in lines if line["event"] == "said"}
    assert {name: said["a"][name] for name in ("run_id", "invocation_id", "node", "index", "attempt", "delivery")} == {
        "run_id": "r1",
        "invocation_id": "r1",
        "node": "pieces/say",
        "index": 0,
        "attempt": 0,
        "delivery": 1,
    }
    assert said["a"]["correlation_id"] == said["own"]["correlation_id"]
    assert said["own"]["index"] == "mine"
    assert not any("run_id" in line for line in lines if " ready." in line["event"])
