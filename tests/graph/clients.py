"""A fan-out and a node after it whose clients are instrumented as users are told to: in the module, all of a kind."""

from typing import Annotated, Any

import sqlalchemy as sa
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

from rollforward import END, GraphBuilder, State, append

SQLAlchemyInstrumentor().instrument()
engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})


class Row(State):
    number: int = 0
    square: int = 0


class Table(State):
    numbers: list[int] = []
    squares: Annotated[list[int], append] = []
    total: int = 0


def square(state: Row) -> dict[str, Any]:
    with engine.connect() as connection:
        return {"square": connection.scalar(sa.text("select :one * :one"), {"one": state.number})}


def add(state: Table) -> dict[str, Any]:
    with engine.connect() as connection:
        return {"total": connection.scalar(sa.text("select :all"), {"all": sum(state.squares)})}


row = GraphBuilder(Row).add_node("square", square).set_entry("square").add_edge("square", END).compile("row-of-clients")
graph = (
    GraphBuilder(Table)
    .add_fan_out_node(
        "squares",
        subgraph=row,
        items_field="numbers",
        item_field="number",
        collect_field="square",
        target_field="squares",
    )
    .add_node("add", add)
    .set_entry("squares")
    .add_edge("squares", "add")
    .add_edge("add", END)
    .compile("clients")
)
