"""What surrounds the graphs of a case: a collector of traces, and a model's API that answers as the case says."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.service.chat_server import NO_ANSWER_LEFT, Answer, Asked, ChatServer, said
from tests.service.otlp import Collector

CHAT = "ROLLFORWARD_CONFORMANCE_CHAT"
"""The environment variable with the URL of the model's API."""


@dataclass
class Script:
    """The answers of one case, in the order of the calls."""

    answers: list[Answer] = field(default_factory=list)
    calls: int = 0

    def __call__(self, _asked: Asked) -> Answer:
        self.calls += 1
        return self.answers[self.calls - 1] if self.calls <= len(self.answers) else NO_ANSWER_LEFT


class Scene:
    """One for all cases of a process; its workers are told of it by `environment`."""

    def __init__(self, collector: Collector, chat: ChatServer, script: Script) -> None:
        self.collector = collector
        self.script = script
        self.environment = {CHAT: chat.base_url, **collector.environment}
        self._of_everybody: InMemorySpanExporter | None = None

    def begin(self, mock_llm: Sequence[Mapping[str, Any]], inline: Sequence[str]) -> None:
        """Begin a case whose calls are answered by these bodies, or by one of the texts that stand in its nodes."""
        self.collector.clear()
        self.script.calls = 0
        self.script.answers[:] = [_answer(one) for one in mock_llm] or [said(text) for text in inline]

    def of_everybody(self) -> InMemorySpanExporter:
        """What goes to the provider that other libraries of this process share; it is there from the first time on."""
        if self._of_everybody is None:
            self._of_everybody = InMemorySpanExporter()
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(self._of_everybody))
            trace.set_tracer_provider(provider)
        self._of_everybody.clear()
        return self._of_everybody


def _answer(spec: Mapping[str, Any]) -> Answer:
    return Answer(status=spec["status"], body=spec["body"])


@contextmanager
def scene() -> Iterator[Scene]:
    """Set the scene, for this process too, until the block is left."""
    script = Script()
    with Collector() as collector, ChatServer(script) as chat:
        made = Scene(collector, chat, script)
        os.environ[CHAT] = made.environment[CHAT]
        try:
            yield made
        finally:
            del os.environ[CHAT]
