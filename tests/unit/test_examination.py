"""What `doctor` makes of facts that no server of the tests can be brought to have."""

from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from backends.checkpointers.sql.migration import SchemaState
from backends.health.redis import is_denied
from backends.health.sql import DatabaseFacts
from orchestrator.errors import LedgerUnavailable
from rollforward.cli.examination.clock import clock
from rollforward.cli.examination.database import durability
from rollforward.cli.examination.finding import Severity, refused_by
from rollforward.cli.examination.fleet import fitting
from rollforward.cli.examination.network import encryption, is_local, judged, of_database
from rollforward.cli.examination.role import roles
from rollforward.cli.examination.version import versions
from workers.settings import Settings

SAFE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "transaction_read_only": "off",
    "is_standby": "off",
}


def severities(settings: dict[str, str]) -> list[Severity]:
    return [found.severity for found in durability(DatabaseFacts(schema=SchemaState.OK, settings=settings))]


def test_a_postgresql_that_keeps_what_it_confirms_is_well():
    assert severities(SAFE) == [Severity.OK]


@pytest.mark.parametrize("level", ["local", "remote_write", "remote_apply"])
def test_every_commit_that_waits_for_the_disk_is_well(level):
    assert severities({**SAFE, "synchronous_commit": level}) == [Severity.OK]


@pytest.mark.parametrize(
    ("setting", "value", "severity"),
    [
        ("fsync", "off", Severity.REFUSED),
        ("synchronous_commit", "off", Severity.REFUSED),
        ("transaction_read_only", "on", Severity.REFUSED),
        ("is_standby", "on", Severity.REFUSED),
        ("full_page_writes", "off", Severity.WARNING),
    ],
)
def test_a_postgresql_that_may_lose_a_commit_is_not(setting, value, severity):
    assert severities({**SAFE, setting: value}) == [severity]


def sqlite(file: Path, *, file_system: str = "ext4", journal_mode: str = "wal") -> dict[str, Severity]:
    settings = {"journal_mode": journal_mode, "synchronous": "2"}
    facts = DatabaseFacts(schema=SchemaState.OK, settings=settings, file=file, file_system=file_system)
    found = durability(facts)
    return {one.check: one.severity for one in found}


def test_a_sqlite_file_on_a_local_disk_is_well(tmp_path):
    assert set(sqlite(tmp_path / "state.db").values()) == {Severity.OK}


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_sqlite_file_on_a_network_file_system_is_refused(tmp_path, kind):
    assert sqlite(tmp_path / "state.db", file_system=kind)["database_file_system"] is Severity.REFUSED


def test_a_sqlite_file_that_cannot_have_wal_is_named(tmp_path):
    assert sqlite(tmp_path / "state.db", journal_mode="delete")["database_durability"] is Severity.WARNING


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("redis://localhost:6379/0", Severity.OK),
        ("redis://127.0.0.9/0", Severity.OK),
        ("redis://[::1]:6379/0", Severity.OK),
        ("redis:///0", Severity.OK),
        ("unix:///run/redis.sock", Severity.OK),
        ("redis://192.0.2.1:6379/0", Severity.WARNING),
        ("redis://:hunter2@redis.invalid/0", Severity.WARNING),
        ("amqp://guest@192.0.2.1//", Severity.WARNING),
        ("sentinel://192.0.2.1:26379;sentinel://192.0.2.2:26379", Severity.WARNING),
        ("rediss://192.0.2.1/0", Severity.OK),
        ("amqps://192.0.2.1//", Severity.OK),
        ("rediss://192.0.2.1/0?ssl_cert_reqs=none", Severity.WARNING),
        ("rediss://192.0.2.1/0?ssl_cert_reqs=CERT_NONE", Severity.WARNING),
        ("rediss://192.0.2.1/0?ssl_cert_reqs=required", Severity.OK),
    ],
)
def test_only_what_leaves_this_host_has_to_be_encrypted(url, severity):
    found = judged("ledger", url)
    assert found.severity is severity
    assert "hunter2" not in found.found


def test_a_name_counts_as_this_host_where_all_its_addresses_do(monkeypatch):
    def resolve(name: str, _: None) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", (address, 0)) for address in name.split("+")]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    assert is_local("127.0.0.1+::1")
    assert is_local("::1%lo")
    assert not is_local("127.0.0.1+192.0.2.1")


@pytest.mark.parametrize(
    ("host", "is_encrypted", "severity"),
    [
        (None, False, Severity.OK),
        ("127.0.0.1", False, Severity.OK),
        ("192.0.2.1", True, Severity.OK),
        ("192.0.2.1", False, Severity.WARNING),
    ],
)
def test_only_a_database_beyond_this_host_has_to_be_encrypted(host, is_encrypted, severity):
    assert of_database(host, is_encrypted=is_encrypted).severity is severity


def test_a_broker_that_is_no_redis_is_looked_at_as_well():
    settings = Settings(redis_url="redis://localhost", broker_url="amqp://192.0.2.1//", checkpoint_url="memory://")
    assert [(found.subject, found.severity.value) for found in encryption(settings)] == [
        ("ledger", "ok"),
        ("broker", "warning"),
    ]


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        (None, ["ledger"]),
        ("redis://one/0", ["ledger"]),
        ("redis://two/0", ["ledger", "broker"]),
        ("redis+socket:///run/redis.sock?virtual_host=1", ["ledger", "broker"]),
        ("amqp://two//", ["ledger"]),
    ],
)
def test_each_redis_is_looked_at_once(broker, expected):
    settings = Settings(redis_url="redis://one/0", broker_url=broker, checkpoint_url="sqlite:///state.db")
    assert [role.name for role in roles(settings)] == expected


def test_without_a_deployment_there_is_no_redis_to_look_at():
    assert list(roles(Settings(checkpoint_url="sqlite:///state.db"))) == []


def test_a_socket_is_spelled_as_the_client_of_redis_does():
    broker = "redis+socket:///run/redis.sock?virtual_host=1"
    *_, role = roles(Settings(redis_url="redis://one/0", broker_url=broker, checkpoint_url="memory://"))
    assert role.url == "unix:///run/redis.sock?db=1"


@pytest.mark.parametrize(("offset", "severity"), [(1.0, "ok"), (-1.0, "ok"), (1.1, "warning"), (-1.1, "warning")])
def test_clocks_may_differ_by_a_second(offset, severity):
    assert clock("redis_clock", offset).severity == severity


def test_what_is_installed_is_supported():
    assert [found.severity for found in versions(Settings())] == [Severity.OK] * 3


def test_an_error_of_ours_ends_with_the_way_out():
    found = refused_by("redis", LedgerUnavailable("Redis at x does not answer; no route; start it"))
    assert (found.found, found.way_out) == ("Redis at x does not answer; no route", "start it")


def worker(name: str, fingerprint: str, **told: object) -> dict[str, object]:
    return {"worker": name, "graphs": [["pages", fingerprint]], "code_version": "1", "version": "0.1", **told}


def checks(*workers: dict[str, object], here: list[tuple[str, str]]) -> dict[str, str]:
    return {found.check: found.severity.value for found in fitting(workers, here)}


def test_workers_of_one_version_fit():
    found = checks(worker("a", "12ab"), worker("b", "12ab"), here=[("pages", "12ab")])
    assert set(found.values()) == {"ok"}


def test_a_graph_of_workers_that_this_process_does_not_know_is_no_harm():
    assert set(checks(worker("a", "12ab"), here=[]).values()) == {"ok"}


def test_a_graph_of_this_process_that_no_worker_has_is_refused():
    (lonely,) = (found for found in fitting([worker("a", "12ab")], [("lonely", "99")]) if found.subject == "lonely")
    assert lonely.severity is Severity.REFUSED


@pytest.mark.parametrize("fact", ["code_version", "version"])
def test_workers_of_several_code_versions_are_named(fact):
    found = checks(worker("a", "12ab"), worker("b", "12ab", **{fact: "2"}), here=[])
    check = "code_version" if fact == "code_version" else "rollforward_version"
    assert [name for name, severity in found.items() if severity != "ok"] == [check]


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (NoPermissionError("this user has no permissions to run the 'evalsha' command"), True),
        (ResponseError("The user executing the script can't run this command or subcommand"), True),
        (ResponseError("ACL failure in script: User worker has no permissions to run the 'hsetnx' command"), True),
        (ResponseError("MISCONF Redis is configured to save its file"), False),
        (ConnectionError("refused"), False),
    ],
)
def test_what_a_user_may_not_do_is_told_from_what_the_server_cannot(cause, expected):
    error = LedgerUnavailable("away")
    error.__cause__ = cause
    assert is_denied(error) is expected
