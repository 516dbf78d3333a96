"""A pipeline per item as users have it: prepare, ask a model, store; its clients are instrumented by their libraries.

What a call is for stands in its parameters: the seed is the number, the temperature the attempt.
"""

import os
from functools import cache
from typing import Annotated, Any

import sqlalchemy as sa
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

from rollforward import (
    END,
    GraphBuilder,
    OpenAIChat,
    RetryConfig,
    RetryMiddleware,
    State,
    append,
    current_attempt_index,
    deterministic_backoff,
    set_invocation_metadata,
)

chat = OpenAIChat(os.environ.get("ASKED_URL", "http://127.0.0.1:9/v1"), "test-model")
engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})


@cache
def instrument() -> None:
    """Instrument the clients of this process, which is a worker's: an orchestrator uses such clients for itself."""
    HTTPXClientInstrumentor().instrument()
    SQLAlchemyInstrumentor().instrument(engine=engine)


class Question(State):
    number: int = 0
    prompt: str = ""
    answer: str = ""


class Questions(State):
    numbers: list[int] = []
    answers: Annotated[list[str], append] = []
    count: int = 0


def prepare(state: Question) -> dict[str, Any]:
    instrument()
    set_invocation_metadata(number=state.number)
    return {"prompt": f"square {state.number}"}


async def ask(state: Question) -> dict[str, Any]:
    messages = [{"role": "user", "content": state.prompt}]
    told = await chat.complete(messages, seed=state.number, temperature=float(current_attempt_index()))
    return {"answer": told.text}


def store(state: Question) -> dict[str, Any]:
    with engine.connect() as connection:
        connection.execute(sa.text("select 1"))
    return {}


async def count(state: Questions) -> dict[str, Any]:
    return {"count": len(state.answers)}


retry = RetryMiddleware(RetryConfig(max_attempts=3, backoff=deterministic_backoff(0)))
question = (
    GraphBuilder(Question)
    .add_node("prepare", prepare)
    .add_node("ask", ask, middleware=[retry])
    .add_node("store", store)
    .set_entry("prepare")
    .add_edge("prepare", "ask")
    .add_edge("ask", "store")
    .add_edge("store", END)
    .compile(name="question")
)
graph = (
    GraphBuilder(Questions)
    .add_fan_out_node(
        "questions",
        subgraph=question,
        items_field="numbers",
        item_field="number",
        collect_field="answer",
        target_field="answers",
        concurrency=32,
    )
    .add_node("count", count)
    .set_entry("questions")
    .add_edge("questions", "count")
    .add_edge("count", END)
    .compile(name="asked")
)
