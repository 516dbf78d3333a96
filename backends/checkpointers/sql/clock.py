"""The database's clock, in SQL; no process's own clock decides about a lease."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Now(FunctionElement[int]):
    """Microseconds since 1970 by the database's clock; SQLite's counts whole milliseconds."""

    type = BigInteger()
    inherit_cache = True


@compiles(Now, "sqlite")
def _sqlite_now(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


@compiles(Now, "postgresql")
def _postgresql_now(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    # The transaction's own start would be too early after a wait for a row's lock.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


def microseconds(span: timedelta) -> int:
    """A time span as the tables count it."""
    return span // _MICROSECOND


def to_number(time: datetime) -> int:
    """A time as the tables keep it."""
    return (time - _EPOCH) // _MICROSECOND


def to_time(number: int) -> datetime:
    """A time as the tables keep it, read back."""
    return _EPOCH + number * _MICROSECOND


def to_optional_time(number: int | None) -> datetime | None:
    """The same where a column may be empty."""
    return None if number is None else to_time(number)
