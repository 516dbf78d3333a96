"""The tables of what became of instances and nodes."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)


def status_table(metadata: MetaData, prefix: str) -> Table:
    """The rows; `node` is the path as text, `names` and `lineage` are JSON, times are microseconds since 1970."""
    return Table(
        f"{prefix}_status",
        metadata,
        # SQLite numbers the rows of a table by a column of this very type.
        Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("run_id", Text, nullable=False),
        Column("invocation_id", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("node", Text, nullable=False),
        Column("names", Text, nullable=False),
        Column("lineage", Text, nullable=False),
        Column("idx", Integer),
        Column("key", Text),
        Column("state", String(16), nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("delivery", Integer, nullable=False),
        Column("worker", Text),
        Column("at", BigInteger, nullable=False),
        Column("duration_seconds", Float),
        Column("error_category", Text),
        Column("error_type", Text),
        Column("error_message", Text),
        Index(f"ix_{prefix}_status_run_id", "run_id", "sequence"),
    )


def status_tag_table(metadata: MetaData, prefix: str) -> Table:
    """The tags of each row, apart from its columns, so that no tag can be taken for one."""
    return Table(
        f"{prefix}_status_tag",
        metadata,
        Column("sequence", BigInteger, nullable=False),
        Column("name", String(64), nullable=False),
        Column("value", Text, nullable=False),
        PrimaryKeyConstraint("sequence", "name", name=f"pk_{prefix}_status_tag"),
        Index(f"ix_{prefix}_status_tag_name", "name", "value"),
        sqlite_with_rowid=False,
    )
