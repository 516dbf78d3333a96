"""A pytest plugin: PostgreSQL for every test that asks for it."""

from collections.abc import Iterator

import pytest

from tests.service.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session; whoever kills it starts it again."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of a database that holds nothing."""
    return postgres_server.create_database()
