"""How much a SQL database does in a transaction: a figure that no other load on the machine changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

_ROWS_READ = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables"
# What was counted is kept for up to a second, over several transactions.
_COUNT_ANEW = "SELECT pg_stat_force_next_flush()"


@contextmanager
def database_work() -> Iterator[list[int]]:
    """What each transaction that is committed meanwhile took, on connections that are made meanwhile.

    In instructions of SQLite's virtual machine, or in rows that PostgreSQL read.
    """
    taken: list[int] = []
    instructions = 0

    def count(connection: Any, _record: object) -> None:
        def one_more() -> None:
            nonlocal instructions
            instructions += 1

        if hasattr(connection, "set_progress_handler"):
            connection.set_progress_handler(one_more, 1)

    def keep(connection: Connection) -> None:
        nonlocal instructions
        if connection.dialect.name == "postgresql":
            taken.append(int(connection.exec_driver_sql(_ROWS_READ).scalar_one()))
            connection.exec_driver_sql(_COUNT_ANEW)
        else:
            taken.append(instructions)
            instructions = 0

    event.listen(Engine, "connect", count)
    event.listen(Engine, "commit", keep)
    try:
        yield taken
    finally:
        event.remove(Engine, "connect", count)
        event.remove(Engine, "commit", keep)
