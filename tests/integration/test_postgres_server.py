import psycopg

from tests.service.postgres import PostgresServer


def _ask(url, statement):
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_each_database_is_a_fresh_one(postgres_server, postgres_url):
    _ask(postgres_url, "CREATE TABLE kept (id int)")
    assert _ask(postgres_server.create_database(), "SELECT 1 FROM pg_tables WHERE tablename = 'kept'") == []


def test_a_server_stopped_at_once_comes_back_at_the_same_address_with_its_data():
    server = PostgresServer()
    try:
        server.start()
        url, pid = server.url, server.pid
        _ask(url, "CREATE TABLE kept (id int)")
        server.kill()
        server.start()
        assert _ask(url, "SELECT count(*) FROM kept") == [(0,)]
        assert server.url == url
        assert server.pid != pid
    finally:
        server.remove()
