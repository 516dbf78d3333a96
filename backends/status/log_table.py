"""The table of what instances put out."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text


def log_table(metadata: MetaData, prefix: str) -> Table:
    """The table whose name begins with this prefix; times are microseconds since 1970."""
    return Table(
        f"{prefix}_log",
        metadata,
        # SQLite numbers the rows of a table by a column of this very type.
        Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("run_id", Text, nullable=False),
        Column("invocation_id", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("node", Text, nullable=False),
        Column("indexes", Text, nullable=False),
        Column("idx", Integer, nullable=False),
        Column("key", Text),
        Column("delivery", Integer, nullable=False),
        Column("worker", Text, nullable=False),
        Column("source", String(32), nullable=False),
        Column("number", Integer, nullable=False),
        Column("stream", String(8), nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("level", Text),
        Column("logger", Text),
        Column("text", Text, nullable=False),
        Column("is_cut", Boolean, nullable=False),
        Column("inner_node", Text),
        Column("attempt", Integer),
        Index(f"ix_{prefix}_log_run_id", "run_id", "sequence"),
        Index(f"ix_{prefix}_log_idx", "run_id", "idx", "sequence"),
    )
