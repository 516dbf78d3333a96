"""How much a checkpoint store holds."""

from pathlib import Path

import psutil
import redis
import sqlalchemy


def store_bytes(url: str) -> int:
    """The bytes of the store at this URL: of SQLite its pages, of PostgreSQL its database, of Redis its memory."""
    if url.startswith("sqlite"):
        return _sqlite_bytes(Path(url.partition("///")[2]))
    if url.startswith("postgresql"):
        return _scalar(url, "SELECT pg_database_size(current_database())")
    with redis.Redis.from_url(url) as client:
        return int(client.info("memory")["used_memory"])


def written_bytes() -> int:
    """The bytes that this process has had written to disk; 0 where the system does not say."""
    counters = getattr(psutil.Process(), "io_counters", None)
    return 0 if counters is None else int(counters().write_bytes)


def _sqlite_bytes(file: Path) -> int:
    return _scalar(f"sqlite:///{file}", "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")


def _scalar(url: str, statement: str) -> int:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.execute(sqlalchemy.text(statement)).scalar_one())
    finally:
        engine.dispose()
