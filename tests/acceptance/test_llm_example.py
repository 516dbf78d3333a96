"""The example that asks a model, against a real server, on real workers."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.llm_fan_out import LABELS
from tests.service.chat_server import Answer, Asked, ChatServer, refused, said
from tests.service.deployment import Deployment
from tests.service.redis import RedisServer

COUNT = 36
KEY = "key-of-the-account-42"
SLOWER = refused(429, "slower", retry_after_ms="20")
ANSWERS: dict[int, list[Answer]] = {
    1: [SLOWER],
    2: [said("I think it is praise")],
    3: [refused(503), Answer(cut_after=0)],
    4: [said('{"label": "Praise "}')],
    33: [said('{"label": "weather"}')],
    34: [said("no verdict")] * 4,
    35: [refused(400, "no")],
}
"""What some texts are answered first, by their number; all else is sorted at once."""

CATEGORIES = {
    1: ["provider_rate_limit", None],
    2: ["structured_output_invalid", None],
    3: ["provider_unavailable", "provider_unavailable", None],
    34: ["structured_output_invalid"] * 4,
    35: ["provider_invalid_request"],
}
"""What the calls of some texts came to, by attempt."""


class Model:
    """Sorts `text N` by its number, after whatever is to go wrong first."""

    def __init__(self) -> None:
        self.calls: dict[int, int] = defaultdict(int)

    def __call__(self, asked: Asked) -> Answer:
        number = int(asked.prompt.removeprefix("text "))
        self.calls[number] += 1
        first = ANSWERS.get(number, [])
        if self.calls[number] <= len(first):
            return first[self.calls[number] - 1]
        return said(json.dumps({"label": LABELS[number % len(LABELS)], "reason": "so it is"}))


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def deployment(redis_server: RedisServer, redis_url: str, tmp_path: Path, model: Model) -> Iterator[Deployment]:
    assert redis_url
    with ChatServer(model) as server:
        environment = {
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": KEY,
            "MODEL": "test-model",
            "LLM_OVERHEARD": str(tmp_path / "overheard"),
        }
        url = f"sqlite:///{tmp_path}/state.db"
        deployed = Deployment(tmp_path, redis_server, url, graphs=["tests.graph.sorting"], environment=environment)
        try:
            yield deployed
        finally:
            deployed.close()
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}


def test_texts_are_sorted_and_every_call_is_told_with_its_instance_and_attempt(
    deployment: Deployment, model: Model
) -> None:
    worker = deployment.worker("sorting", concurrency=2)
    verdicts = deployment.folder / "verdicts"
    texts = json.dumps([f"text {number}" for number in range(COUNT)])
    given = ("--set", f"texts={texts}", "--set", f"folder={json.dumps(str(verdicts))}", "--run-id", "sorted")
    ended = deployment.command("run", "tests.graph.sorting:graph", *given, "--progress", "none", "-o", "json")
    state = ended["state"]

    good = [number for number in range(COUNT) if number < 33]
    assert [one["index"] for one in state["sorted"]] == good
    label_of = {number: LABELS[number % len(LABELS)] for number in good} | {4: "praise"}
    assert {one["index"]: one["label"] for one in state["sorted"]} == label_of
    assert state["labels"] == dict(Counter(label_of.values()))
    assert state["tokens"] == 6 * len(good)
    assert {int(error["fan_out_index"]): error["category"] for error in state["errors"]} == {
        33: "label_unknown",
        34: "structured_output_invalid",
        35: "provider_invalid_request",
    }
    assert {int(file.stem): json.loads(file.read_text())["label"] for file in verdicts.iterdir()} == label_of

    told = overheard(deployment.folder / "overheard")
    assert {(run, place) for run, place, *_ in told} == {("sorted", "texts/ask")}
    assert Counter(index for _, _, index, *_ in told) == model.calls
    by_instance: dict[int, list[Any]] = defaultdict(list)
    for _, _, index, attempt, category, tokens, messages in told:
        assert attempt == len(by_instance[index])
        assert (tokens, messages) == (6 if category in (None, "structured_output_invalid") else None, None)
        by_instance[index].append(category)
    assert by_instance == {number: CATEGORIES.get(number, [None]) for number in range(COUNT)}

    shown = worker.log.read_text() + json.dumps(ended)
    assert KEY not in shown
    assert "no verdict" not in shown


def overheard(file: Path) -> list[list[Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
