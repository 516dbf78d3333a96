"""A call of a model: its span under the node attempt that makes it, and what observers are told of it."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.error_record import ErrorRecord
from orchestrator.llm.event import LlmCompletionEvent, LlmFailedEvent, Parameters, Usage
from orchestrator.middleware.cause_chain import error_record
from orchestrator.observers.event import Phase
from orchestrator.observers.site import Site, current_site
from orchestrator.tracing.current import current_span, within
from orchestrator.tracing.span import CANCELLED, Span

SPAN_NAME = "rollforward.llm.complete"

_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
    "n": "gen_ai.request.choice.count",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What is asked of a model, as far as it is told; `messages` is None where payload is not."""

    provider: str
    model: str
    server_address: str
    server_port: int
    parameters: Parameters = field(default_factory=dict)
    output_type: str = "text"
    call_attempt_index: int = 0
    messages: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The attributes that a span begins with."""
        named = {_PARAMETERS[name]: value for name, value in self.parameters.items() if name in _PARAMETERS}
        return {
            "llm.model": self.model,
            "llm.attempt_index": self.call_attempt_index,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "gen_ai.output.type": self.output_type,
            "server.address": self.server_address,
            "server.port": self.server_port,
            **named,
            **_known({"gen_ai.input.messages": self.messages}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What a model answered, as far as it is told; `text` and `messages` are None where payload is not.

    `messages` is what the span shows of the answer, and `text` what observers are told of it.
    """

    model: str | None = None
    id: str | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    text: str | None = None
    messages: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The attributes that a span ends with."""
        return _known(
            {
                "llm.finish_reason": self.finish_reason,
                "llm.usage.prompt_tokens": self.usage.prompt_tokens,
                "llm.usage.completion_tokens": self.usage.completion_tokens,
                "llm.usage.total_tokens": self.usage.total_tokens,
                "gen_ai.response.model": self.model,
                "gen_ai.response.id": self.id,
                "gen_ai.response.finish_reasons": self.finish_reason and (self.finish_reason,),
                "gen_ai.usage.input_tokens": self.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": self.usage.completion_tokens,
                "gen_ai.output.messages": self.messages,
            }
        )


class Call(Protocol):
    """A call that is being made."""

    def answered(self, answer: ModelAnswer) -> None:
        """Say what was answered, as soon as it is known: the call may fail after that."""


class ToldCall(Call):
    """A call inside a run: it has a span, and observers are told how it ends."""

    def __init__(self, request: ModelRequest, site: Site, span: Span) -> None:
        self._request = request
        self._site = site
        self._span = span
        self._answer = ModelAnswer()
        self._began = time.perf_counter()

    def answered(self, answer: ModelAnswer) -> None:
        self._answer = answer
        self._span.note(answer.facts)

    def succeeded(self) -> None:
        """It is over, and what was answered can be used."""
        self._span.end()
        self._site.tell(LlmCompletionEvent, Phase.LLM, **self._told())

    def failed(self, error: BaseException) -> None:
        """It is over, and this is why nothing came of it."""
        record = _record(error)
        self._span.note({"error.type": record.category or record.type})
        self._span.end(record)
        self._site.tell(LlmFailedEvent, Phase.LLM, **self._told(), error=record)

    def _told(self) -> dict[str, Any]:
        request, answer = self._request, self._answer
        return {
            "provider": request.provider,
            "model": request.model,
            "parameters": request.parameters,
            "call_attempt_index": request.call_attempt_index,
            "messages": request.messages,
            "duration_seconds": time.perf_counter() - self._began,
            "response_model": answer.model,
            "response_id": answer.id,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "text": answer.text,
        }


class UntoldCall(Call):
    """A call outside any run: nobody is told of it."""

    def answered(self, _answer: ModelAnswer) -> None:
        return None


@contextmanager
def calling(request: ModelRequest) -> Iterator[Call]:
    """Trace what is done in here as one call of a model, and tell observers how it ends.

    Outside a run neither happens.
    """
    site = current_site()
    if site is None:
        yield UntoldCall()
        return
    span = site.frame.tracing.call(SPAN_NAME, request.facts, current_span())
    call = ToldCall(request, site, span)
    try:
        with within(span):
            yield call
    except BaseException as error:
        call.failed(error)
        raise
    call.succeeded()


def _record(error: BaseException) -> ErrorRecord:
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    return error_record(error, with_traceback=False)


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
