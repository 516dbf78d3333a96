"""`doctor` on what a deployment stands on: each trap is set for real, and is the only thing that it finds."""

import json
import re
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from backends.checkpointers.sql.schema import version_table
from rollforward.embedded.redis_binary import find_redis_server
from tests.service.cli import CommandLine
from tests.service.examined import examined, judged
from tests.service.proxy import Proxy
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY, wait_until

NO_WORKER = ("workers", "", "warning")
HOUR = 3600


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis as it is to be, which a test may set otherwise."""
    with running(RedisServer(tmp_path / "own")) as server:
        yield server


@contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    server.start()
    try:
        with server.client() as client:
            client.config_set("maxmemory", "256mb")
        yield server
    finally:
        server.stop()


def deployed(cli: CommandLine, redis_url: str, **more: str) -> CommandLine:
    environment = {"ROLLFORWARD_REDIS_URL": redis_url, "ROLLFORWARD_CHECKPOINT_URL": f"sqlite:///{cli.folder}/state.db"}
    return CommandLine(cli.folder, {**environment, **more}, cli.mark)


def bad(cli: CommandLine) -> set[tuple[str, str, str]]:
    """What is not well, beside that nobody started a worker."""
    return examined(cli).bad() - {NO_WORKER}


def test_a_good_deployment_is_found_well(cli, own_redis):
    cli = deployed(cli, own_redis.url)
    cli.ok("migrate")
    assert examined(cli).bad() == {NO_WORKER}


def test_doctor_leaves_nothing_behind(cli, own_redis):
    assert examined(deployed(cli, own_redis.url)).code == 0
    with own_redis.client() as client:
        assert client.keys() == []
    assert not (cli.folder / "state.db").exists()


def test_the_table_has_every_way_out(cli, own_redis):
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    ended = deployed(cli, own_redis.url).run("doctor")
    assert ended.code == 1
    shown = " ".join(ended.stdout.split())
    assert "redis_eviction ledger refused" in shown
    assert "set maxmemory-policy noeviction" in shown


@pytest.mark.parametrize(
    ("setting", "value", "check", "severity"),
    [
        ("maxmemory-policy", "allkeys-lru", "redis_eviction", "refused"),
        ("maxmemory-policy", "volatile-ttl", "redis_eviction", "refused"),
        ("maxmemory", "0", "redis_memory", "warning"),
        ("appendonly", "no", "redis_append_only_file", "warning"),
        ("proto-max-bulk-len", str(4 * 8 * 1024 * 1024 - 1), "redis_value_size", "refused"),
        ("timeout", "300", "redis_connections", "warning"),
        ("tcp-keepalive", "0", "redis_connections", "warning"),
    ],
)
def test_a_redis_that_loses_things_is_named(cli, own_redis, setting, value, check, severity):
    with own_redis.client() as client:
        client.config_set(setting, value)
    assert bad(deployed(cli, own_redis.url)) == {(check, "ledger", severity)}


def test_a_slow_flower_is_thought_of_where_there_is_one(cli, own_redis):
    assert bad(deployed(cli, own_redis.url)) == set()
    watched = deployed(cli, own_redis.url, ROLLFORWARD_MONITORING="1")
    assert bad(watched) == {("redis_connections", "ledger", "warning")}
    with own_redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 64mb 16mb 60")
    assert bad(watched) == set()


def test_a_redis_that_fills_up_is_named(cli, own_redis):
    with own_redis.client() as client:
        client.config_set("maxmemory", 0)
        client.set("rollforward:run:ballast", b"x" * 20_000_000)
    # What the client that sent it took is free again by now.
    with own_redis.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.85))
    found = examined(deployed(cli, own_redis.url))
    assert found.bad() == {NO_WORKER, ("redis_memory", "ledger", "warning")}
    assert re.match(r"8\d% of maxmemory", found.of("redis_memory", "ledger")["found"])


def test_a_redis_whose_disk_is_full_is_refused(cli, tmp_path, monkeypatch):
    # A write beyond the limit fails as one to a full disk does, where it does not end the process.
    script = tmp_path / "redis-server"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {find_redis_server()} \"$@\"\n")
    script.chmod(0o700)
    monkeypatch.setattr("tests.service.redis.find_redis_server", lambda: script)
    with running(RedisServer(tmp_path / "full")) as server:
        largest = max(path.stat().st_size for path in server.folder.rglob("*") if path.is_file())
        process = psutil.Process(server.pid)
        process.rlimit(resource.RLIMIT_FSIZE, (largest + 1024, resource.RLIM_INFINITY))
        with server.client() as client:
            client.set("rollforward:run:ballast", b"x" * 10_000)
            wait_until(lambda: client.info()["aof_last_write_status"] == "err", what="the file cannot be written")
        found = bad(deployed(cli, server.url))
        process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert {("redis_append_only_file", "ledger", "refused"), ("redis_probe", "ledger", "refused")} <= found


@pytest.mark.parametrize(
    ("setting", "value", "check", "severity"),
    [
        ("appendonly", "no", "redis_append_only_file", "refused"),
        ("maxmemory-policy", "allkeys-lru", "redis_eviction", "refused"),
        ("appendfsync", "no", "redis_appendfsync", "refused"),
        ("appendfsync", "everysec", "redis_appendfsync", "warning"),
    ],
)
def test_more_is_asked_of_a_redis_that_keeps_the_record(cli, own_redis, tmp_path, setting, value, check, severity):
    with running(RedisServer(tmp_path / "record", fsync="always")) as record:
        cli = deployed(cli, own_redis.url, ROLLFORWARD_CHECKPOINT_URL=record.url)
        assert bad(cli) == set()
        with record.client() as client:
            client.config_set(setting, value)
        assert bad(cli) == {(check, "checkpoints", severity)}


def test_a_broker_of_its_own_is_examined_as_well(cli, own_redis, tmp_path):
    with running(RedisServer(tmp_path / "broker")) as broker:
        cli = deployed(cli, own_redis.url, ROLLFORWARD_BROKER_URL=broker.url)
        assert bad(cli) == set()
        with broker.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        assert bad(cli) == {("redis_eviction", "broker", "refused")}


def test_a_replica_is_refused_and_its_primary_is_to_wait_for_it(cli, own_redis, tmp_path):
    with running(RedisServer(tmp_path / "replica")) as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", str(own_redis.port))
            wait_until(lambda: client.info()["master_link_status"] == "up", what="it follows its primary")
            # Redis refuses to stop before it has written the first append-only file of what it copied.
            wait_until(lambda: not client.info()["aof_rewrite_in_progress"], what="it has kept what it copied")
        on_replica, on_primary = (bad(deployed(cli, server.url)) for server in (replica, own_redis))
    assert {("redis_topology", "ledger", "refused"), ("redis_probe", "ledger", "refused")} <= on_replica
    assert on_primary == {("redis_topology", "ledger", "warning")}


class ClusterNode(RedisServer):
    def _arguments(self) -> list[str]:
        return [*super()._arguments(), "--cluster-enabled", "yes", "--databases", "1"]


def test_a_cluster_is_refused(cli, tmp_path):
    nodes = (ClusterNode(tmp_path / "cluster") for _ in range(100))
    # Nodes talk to each other at a port that is higher by 10,000.
    fitting = next(node for node in nodes if node.port + 10_000 < 1 << 16)
    with running(fitting) as server:
        assert ("redis_topology", "ledger", "refused") in bad(deployed(cli, server.url))


def test_a_redis_that_is_too_old_is_refused(cli, own_redis):
    def older(answer: bytes) -> bytes:
        return re.sub(rb"(?<=redis_version:)\d\.\d", b"6.0", answer)

    with Proxy(own_redis.port, change=older) as lying:
        assert bad(deployed(cli, lying.redis_url)) == {("redis_version", "ledger", "refused")}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_redis_whose_clock_is_off_is_named(cli, own_redis, hours):
    def later(answer: bytes) -> bytes:
        return re.sub(
            rb"(?<=\*2\r\n\$10\r\n)\d{10}(?=\r\n\$\d\r\n\d+\r\n)",
            lambda seconds: b"%d" % (int(seconds.group()) + hours * HOUR),
            answer,
        )

    with Proxy(own_redis.port, change=later) as lying:
        found = examined(deployed(cli, lying.redis_url))
    assert found.bad() == {NO_WORKER, ("redis_clock", "ledger", "warning")}
    assert found.of("redis_clock", "ledger")["found"].startswith(
        ("+3599", "+3600") if hours > 0 else ("-3600", "-3601")
    )


def narrow(server: RedisServer, *commands: str) -> str:
    """The URL of the server for a user who has everything but these commands."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", "~*", "&*", "+@all", *commands)
    return server.url.replace("redis://", "redis://narrow:secret@")


def test_what_a_narrow_user_may_not_ask_is_not_held_against_the_server(cli, own_redis):
    cli = deployed(cli, narrow(own_redis, "-config", "-acl", "-scan"))
    found = examined(cli)
    assert found.bad() == {NO_WORKER}
    assert "hidden" in found.of("redis_keys", "ledger")["found"]


@pytest.mark.parametrize(
    ("missing", "check", "way_out"),
    [("-info", "redis", "ask as the orchestrator's user"), ("-set", "redis_probe", "give this user the rights")],
)
def test_a_user_that_cannot_work_is_refused(cli, own_redis, missing, check, way_out):
    found = examined(deployed(cli, narrow(own_redis, missing)))
    assert found.bad() == {NO_WORKER, (check, "ledger", "refused")}
    assert way_out in found.of(check, "ledger")["way_out"]


@pytest.mark.parametrize(
    ("environment", "check", "subject"),
    [
        ({"ROLLFORWARD_REDIS_URL": "redis://127.0.0.1:1"}, "redis", "ledger"),
        ({"ROLLFORWARD_CHECKPOINT_URL": "memory://"}, "checkpoint_store", ""),
        ({"ROLLFORWARD_CHECKPOINT_URL": "redis://127.0.0.1:1"}, "redis", "checkpoints"),
        ({"ROLLFORWARD_CHECKPOINT_URL": "sqlite:////dev/null/state.db"}, "database_file", ""),
    ],
)
def test_what_is_away_or_keeps_nothing_is_refused(cli, own_redis, environment, check, subject):
    cli = deployed(cli, own_redis.url, **environment)
    assert (check, subject, "refused") in bad(cli)


def beyond_this_host(url: str) -> str:
    """An address that reaches the server and is none of the loopback's."""
    return url.replace("127.0.0.1", "0.0.0.0")


def test_a_connection_beyond_this_host_is_warned_of_loudly(cli, own_redis):
    found = examined(deployed(cli, beyond_this_host(own_redis.url)))
    assert found.bad() == {
        NO_WORKER,
        ("tls", "ledger", "warning"),
        ("redis_user", "ledger", "warning"),
        ("seal", "", "warning"),
    }
    assert found.of("tls", "ledger")["found"].startswith("NOT ENCRYPTED")


def test_a_secret_and_a_user_are_enough_where_only_tls_is_missing(cli, own_redis):
    url = beyond_this_host(narrow(own_redis, "-flushall"))
    cli = deployed(cli, url, ROLLFORWARD_SECRET="4f0c2b8e6d1a4f0c2b8e6d1a")
    assert bad(cli) == {("tls", "ledger", "warning")}


def test_a_short_secret_is_warned_of(cli, own_redis):
    assert bad(deployed(cli, own_redis.url, ROLLFORWARD_SECRET="secret")) == {("seal", "", "warning")}


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("cache:1", "redis_keys"),
        ("unacked", "redis_keys"),
        ("staging:run:workers", "redis_keys"),
        ("rollforward_2:mq:celery", "redis_keys"),
        ("rollforward:celery", "namespace"),
        ("rollforward:mq:celery", "namespace"),
    ],
)
def test_keys_of_others_are_named(cli, own_redis, key, check):
    with own_redis.client() as client:
        client.set(key, "theirs")
    found = examined(deployed(cli, own_redis.url))
    assert found.bad() == {NO_WORKER, (check, "ledger", "warning")}
    owner = key.partition(":")[0]
    assert (key if owner in ("cache", "unacked", "rollforward") else owner) in found.of(check, "ledger")["found"]


def test_queues_that_events_left_behind_are_named(cli, own_redis):
    with own_redis.client() as client:
        for number in range(101):
            client.rpush(f"rollforward:mq:celeryev.{number}", "event")
            assert number or bad(deployed(cli, own_redis.url)) == set()
    assert bad(deployed(cli, own_redis.url)) == {("event_queues", "ledger", "warning")}


def test_a_file_that_others_may_open_is_named(cli, own_redis):
    cli = deployed(cli, own_redis.url)
    cli.ok("migrate")
    (cli.folder / "state.db").chmod(0o644)
    assert bad(cli) == {("database_file", "", "warning")}


def test_a_file_in_memory_is_named(cli, own_redis):
    with TemporaryDirectory(dir="/dev/shm") as folder:
        found = examined(deployed(cli, own_redis.url, ROLLFORWARD_CHECKPOINT_URL=f"sqlite:///{folder}/state.db"))
    told = found.of("database_file_system")
    assert (told["severity"], "tmpfs" in told["found"]) == ("warning", True)


@pytest.mark.parametrize(("revision", "severity"), [("0001", "warning"), ("9999", "refused")])
def test_a_schema_of_another_version_is_named(cli, own_redis, revision, severity):
    cli = deployed(cli, own_redis.url)
    cli.ok("migrate")
    with closing(sqlite3.connect(cli.folder / "state.db")) as database, database:
        database.execute(f"UPDATE {version_table('rollforward')} SET version_num = ?", (revision,))
    assert ("database_schema", "", severity) in bad(cli)


@pytest.mark.parametrize(
    ("module", "check", "severity"),
    [
        ("raise ImportError", "graph_list", "refused"),
        ("import kombu\nkombu.enable_insecure_serializers()", "serializers", "refused"),
        (
            "from kombu.utils.json import register_type\nregister_type(set, 'set', list, set)",
            "serializers",
            "refused",
        ),
    ],
)
def test_what_a_users_module_brings_is_examined(cli, own_redis, module, check, severity):
    (cli.folder / "brought.py").write_text(module)
    assert bad(deployed(cli, own_redis.url, ROLLFORWARD_GRAPHS="brought")) == {(check, "", severity)}


def test_a_module_that_prints_does_not_spoil_the_output(cli, own_redis):
    (cli.folder / "brought.py").write_text("print('hello')")
    assert bad(deployed(cli, own_redis.url, ROLLFORWARD_GRAPHS="brought")) == set()


LONG = """
from datetime import timedelta
from tests.graph.tiny import piece
from tests.graph.waiting import Whole
from rollforward import END, GraphBuilder
graph = (
    GraphBuilder(Whole)
    .add_fan_out_node("pieces", subgraph=piece, items_field="numbers", item_field="number", collect_field="result",
                      target_field="results", time_limit=timedelta(hours={hours}))
    .set_entry("pieces").add_edge("pieces", END).compile(name="long")
)
"""


@pytest.mark.parametrize(("hours", "severity"), [(23, None), (24, "warning")])
def test_an_instance_that_may_outlast_the_visibility_timeout_is_named(cli, own_redis, hours, severity):
    (cli.folder / "brought.py").write_text(LONG.format(hours=hours))
    found = examined(deployed(cli, own_redis.url, ROLLFORWARD_GRAPHS="brought"))
    assert found.bad() == {NO_WORKER} | ({("visibility_timeout", "", severity)} if severity else set())
    assert ("long/pieces" in found.of("visibility_timeout")["found"]) == (severity is not None)


def test_a_hard_limit_that_outlasts_the_visibility_timeout_is_named(cli, own_redis):
    cli = deployed(cli, own_redis.url, ROLLFORWARD_HARD_LIMIT_SECONDS="100000")
    assert bad(cli) == {("visibility_timeout", "", "warning")}


def test_versions_that_are_not_supported_are_refused(cli, own_redis, tmp_path):
    installed = {"celery": "5.6.3", "kombu": "5.6.2", "redis": "9.0.0"}
    for name, version in installed.items():
        folder = tmp_path / "installed" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    path = f"{tmp_path}/installed:{REPOSITORY}"
    with deployed(cli, own_redis.url, PYTHONPATH=path).started("doctor", "-o", "json") as process:
        printed, _ = process.communicate(timeout=60)
    found = judged(process.returncode, json.loads(printed))
    assert found.bad() == {NO_WORKER, *(("version", name, "refused") for name in installed)}
