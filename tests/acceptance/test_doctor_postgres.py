"""`doctor` on PostgreSQL. The server of the tests runs without fsync, so that this is always found."""

import psycopg
import pytest
from sqlalchemy import make_url

from tests.service.cli import CommandLine
from tests.service.examined import Examined, examined
from tests.service.postgres import PostgresServer

CHECK = "database_durability"


@pytest.fixture
def deployed(cli: CommandLine, postgres_url: str, redis_url: str) -> CommandLine:
    environment = {"ROLLFORWARD_REDIS_URL": redis_url, "ROLLFORWARD_CHECKPOINT_URL": postgres_url}
    return CommandLine(cli.folder, environment, cli.mark)


def ask(server: PostgresServer, cli: CommandLine, *statements: str) -> None:
    """Have the owner of the server do something in the database of this deployment."""
    name = make_url(cli.environment["ROLLFORWARD_CHECKPOINT_URL"]).database
    with psycopg.connect(f"host={server.folder} user=postgres dbname={name}", autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.format(name=name))


def found_in(found: Examined) -> list[str]:
    return [one["found"] for one in found.findings if one["check"] == CHECK]


def test_a_server_that_does_not_flush_is_refused(deployed):
    found = examined(deployed)
    assert (CHECK, "", "refused") in found.bad()
    (told,) = found_in(found)
    assert told.startswith("fsync is off")
    assert found.of("tls", "checkpoints")["severity"] == found.of("database_clock")["severity"] == "ok"


def test_that_commits_do_not_wait_for_the_disk_is_not_left_to_the_server(deployed, postgres_server):
    ask(postgres_server, deployed, "ALTER DATABASE {name} SET synchronous_commit = off")
    assert len(found_in(examined(deployed))) == 1


def test_a_database_that_takes_no_writes_is_refused(deployed, postgres_server):
    ask(postgres_server, deployed, "ALTER DATABASE {name} SET default_transaction_read_only = on")
    told = found_in(examined(deployed))
    assert [one.partition(":")[0] for one in told] == ["it takes no writes", "fsync is off"]


def test_a_server_that_may_tear_pages_is_named(deployed, postgres_server):
    ask(postgres_server, deployed, "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    try:
        told = found_in(examined(deployed))
    finally:
        ask(postgres_server, deployed, "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
    assert [one.partition(":")[0] for one in told] == ["fsync is off", "full_page_writes is off"]


def test_a_database_whose_clock_is_off_is_named(deployed, postgres_server):
    body = "SELECT pg_catalog.clock_timestamp() - interval '1 hour'"
    ask(
        postgres_server,
        deployed,
        "CREATE SCHEMA late",
        f"CREATE FUNCTION late.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ {body} $$",
        "ALTER DATABASE {name} SET search_path = late, pg_catalog, public",
    )
    found = examined(deployed)
    assert ("database_clock", "", "warning") in found.bad()
    assert abs(float(found.of("database_clock")["found"].split()[0]) + 3600) < 5


def test_a_database_that_is_away_is_refused(deployed, tmp_path):
    environment = {**deployed.environment, "ROLLFORWARD_CHECKPOINT_URL": f"postgresql://nobody@/none?host={tmp_path}"}
    found = examined(CommandLine(deployed.folder, environment, deployed.mark))
    assert ("checkpoint_store", "", "refused") in found.bad()
