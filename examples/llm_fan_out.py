"""Have a model sort texts, one instance a text.

    export OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEY=... MODEL=gpt-4o-mini
    rollforward run examples.llm_fan_out:graph --items reviews.txt --into texts --set folder='"verdicts"'

Any server with that API will do, also a local one. Calls that fail for a passing reason, or are answered with what is
no verdict, are made again; a text that stays without a verdict is shown as a failure, and the others are sorted.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from rollforward import (
    END,
    GraphBuilder,
    OpenAIChat,
    RetryMiddleware,
    State,
    append,
    current_fan_out_index,
    default_classifier,
    exponential_jitter_backoff,
    set_invocation_metadata,
)

LABELS = ("praise", "complaint", "question", "other")
LONGEST = 4000
TASK = f"Sort the text that follows: label it as one of {', '.join(LABELS)}, and give the reason in a few words."

chat = OpenAIChat(
    os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    os.environ.get("MODEL", "gpt-4o-mini"),
    api_key="OPENAI_API_KEY",
)


class LabelUnknown(Exception):
    """The model made a label up."""

    category = "label_unknown"


class Verdict(BaseModel):
    """What the model says of a text."""

    label: str
    reason: str = ""


class Sorted(BaseModel):
    """A text, by its place, with its label and what that took."""

    index: int
    label: str
    reason: str
    tokens: int = 0


class Text(State):
    """One text on its way through prepare, ask, parse and store."""

    text: str
    folder: str = ""
    prompt: str = ""
    answer: Verdict | None = None
    tokens: int = 0
    sorted: Sorted | None = None


class Texts(State):
    """All texts; `folder` is where verdicts are stored as files, if anywhere."""

    texts: list[str]
    folder: str = ""
    sorted: Annotated[list[Sorted], append] = []
    errors: Annotated[list[dict[str, str]], append] = []
    labels: dict[str, int] = {}
    tokens: int = 0


async def prepare(state: Text) -> dict[str, str]:
    """Make a prompt of the text, and say in traces and logs how long it is."""
    prompt = " ".join(state.text.split())[:LONGEST]
    set_invocation_metadata(characters=len(prompt))
    return {"prompt": prompt}


async def ask(state: Text) -> dict[str, Any]:
    """Ask the model."""
    messages = [{"role": "system", "content": TASK}, {"role": "user", "content": state.prompt}]
    completion = await chat.complete(messages, response_model=Verdict, temperature=0, max_tokens=200)
    return {"answer": completion.parsed, "tokens": completion.usage.total_tokens or 0}


def may_pass(error: Exception, state: Text) -> bool:
    """Whether asking again may help: the reason passes, or the model was not clear."""
    return default_classifier(error, state) or getattr(error, "category", None) == "structured_output_invalid"


async def parse(state: Text) -> dict[str, Sorted]:
    """Take the label, if it is one."""
    verdict = state.answer or Verdict(label="")
    label = verdict.label.strip().lower()
    if label not in LABELS:
        raise LabelUnknown(f"{label[:40]!r} is none of {', '.join(LABELS)}")
    index = current_fan_out_index() or 0
    return {"sorted": Sorted(index=index, label=label, reason=verdict.reason, tokens=state.tokens)}


def store(state: Text) -> dict[str, Any]:
    """Write the verdict to a file of its own: whoever does it again writes the same one."""
    if state.folder and state.sorted:
        folder = Path(state.folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{state.sorted.index}.json").write_text(json.dumps(state.sorted.model_dump()) + "\n")
    return {}


async def summarise(state: Texts) -> dict[str, Any]:
    """Count the labels and the tokens."""
    return {
        "labels": dict(Counter(one.label for one in state.sorted)),
        "tokens": sum(one.tokens for one in state.sorted),
    }


again = RetryMiddleware(max_attempts=4, classifier=may_pass, backoff=exponential_jitter_backoff(base=0.25))

text_graph = (
    GraphBuilder(Text)
    .add_node("prepare", prepare)
    .add_node("ask", ask, middleware=[again], durable=True)  # what was paid for is kept when a worker is lost
    .add_node("parse", parse)
    .add_node("store", store)
    .set_entry("prepare")
    .add_edge("prepare", "ask")
    .add_edge("ask", "parse")
    .add_edge("parse", "store")
    .add_edge("store", END)
    .compile(name="llm-fan-out-text")
)

graph = (
    GraphBuilder(Texts)
    .add_fan_out_node(
        "texts",
        subgraph=text_graph,
        items_field="texts",
        item_field="text",
        inputs={"folder": "folder"},
        collect_field="sorted",
        target_field="sorted",
        errors_field="errors",
        error_policy="collect",
        concurrency=16,
    )
    .add_node("summarise", summarise)
    .set_entry("texts")
    .add_edge("texts", "summarise")
    .add_edge("summarise", END)
    .compile(name="llm-fan-out")
)
