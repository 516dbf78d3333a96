"""Every process reaches Redis through TLS, and none believes a certificate that it should not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from backends.opening import open_store
from orchestrator.errors import BrokerUnavailable, CheckpointUnavailable, LedgerUnavailable
from orchestrator.execution.executor import Hint
from orchestrator.seal import Seal
from tests.security.tls import Certificate, certificate_for, tls_in_front_of
from tests.service.cli import CommandLine
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess, wait_until
from workers.application import build_app
from workers.publisher import Publisher
from workers.settings import Settings

GRAPH = "tests.graph.tiny:graph"
GRAPHS = "tests.graph.tiny"
REFUSAL = r"certificate verify failed.*ssl_ca_certs=FILE"
HINT = Hint(run_id="r", fan_out="f", index=0, generation=0, graph="g", fingerprint="p", label="g/f")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Certificate:
    return certificate_for(folder, "ours", alternative="IP:127.0.0.1")


@pytest.fixture(scope="module")
def of_others(folder: Path) -> Certificate:
    return certificate_for(folder, "of-others", alternative="IP:127.0.0.1")


@pytest.fixture(scope="module")
def hidden_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis that listens on no port, so that there is no way around TLS."""
    server = RedisServer(folder, unix_socket=True).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def port(hidden_redis: RedisServer, ours: Certificate) -> Iterator[int]:
    assert hidden_redis.socket is not None
    with tls_in_front_of(hidden_redis.socket, ours) as opened:
        yield opened


@pytest.fixture(scope="module")
def trusting(port: int, ours: Certificate) -> str:
    return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={ours.file}"


@pytest.fixture(scope="module")
def mistrusting(port: int, of_others: Certificate) -> str:
    return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={of_others.file}"


def test_worker_orchestrator_and_record_are_all_behind_tls(cli: CommandLine, trusting: str) -> None:
    settings = {"ROLLFORWARD_REDIS_URL": trusting, "ROLLFORWARD_CHECKPOINT_URL": trusting}
    deployed = CommandLine(cli.folder, {**settings, "ROLLFORWARD_GRAPHS": GRAPHS}, cli.mark)
    with WorkerProcess(cli.folder, redis_url=trusting, graphs=[GRAPHS], pool="threads") as worker:
        ended = deployed.ok("run", GRAPH, "--set", "numbers=[1, 2]", "--run-id", "one", "-o", "json")
        log = worker.log.read_text()
    assert ended.document["state"]["results"] == ["2", "4"]
    assert deployed.ok("status", "one", "-o", "json").document["status"] == "succeeded"
    assert "insecure" not in log
    assert "TLS" not in log


async def test_nobody_believes_a_certificate_of_others(mistrusting: str) -> None:
    worker, orchestrator = RedisWorkerLedger(mistrusting), RedisLedger(mistrusting)
    store = open_store(mistrusting, namespace="rollforward")
    with pytest.raises(LedgerUnavailable, match=REFUSAL):
        worker.workers()
    with pytest.raises(LedgerUnavailable, match=REFUSAL):
        await orchestrator.epoch("r")
    with pytest.raises(CheckpointUnavailable, match=REFUSAL):
        await store.find("r")
    worker.close()
    await orchestrator.close_connections()
    await store.close()


def test_a_certificate_for_another_host_is_not_believed(port: int, ours: Certificate) -> None:
    worker = RedisWorkerLedger(f"rediss://localhost:{port}/0?ssl_ca_certs={ours.file}")
    with pytest.raises(LedgerUnavailable, match=REFUSAL):
        worker.workers()
    worker.close()


@pytest.mark.parametrize("authority", ["another", "those of this host", "ours, for another host"])
def test_no_message_goes_to_a_broker_with_a_certificate_of_others(
    port: int, ours: Certificate, mistrusting: str, authority: str
) -> None:
    urls = {
        "another": mistrusting,
        "those of this host": f"rediss://127.0.0.1:{port}/0",
        "ours, for another host": f"rediss://localhost:{port}/0?ssl_ca_certs={ours.file}",
    }
    publisher = Publisher(build_app(Settings(redis_url=urls[authority])), Seal(), namespace="rollforward")
    with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
        publisher.publish([HINT])
    publisher.close()


def test_a_worker_says_that_it_believes_no_certificate_of_others(tmp_path: Path, port: int) -> None:
    url = f"rediss://127.0.0.1:{port}/0"
    worker = WorkerProcess(tmp_path, redis_url=url, graphs=[GRAPHS], pool="threads")
    try:
        worker.start(wait=False)
        wait_until(lambda: "certificate verify failed" in worker.log.read_text(), what="the worker says it")
    finally:
        worker.kill()


def test_the_command_line_says_what_to_do(cli: CommandLine, port: int) -> None:
    url = f"rediss://127.0.0.1:{port}/0"
    ended = CommandLine(cli.folder, {"ROLLFORWARD_CHECKPOINT_URL": url}, cli.mark).run("ls")
    assert ended.code == 69
    assert "ssl_ca_certs=FILE" in ended.stderr
    assert ended.stderr.count("\n") == 1
