"""Calls of a model behind an OpenAI-compatible chat API."""

from collections.abc import Sequence
from typing import Any, Unpack

from pydantic import BaseModel, SecretStr

from backends.llm.completion import Completion, completion_of
from backends.llm.error import ProviderAuthentication, ProviderInvalidResponse
from backends.llm.payload import shown_answer, shown_text
from backends.llm.refusal import has_refused, refusal
from backends.llm.reply import Reply
from backends.llm.request import Message, Question
from backends.llm.setting import ChatOptions, ChatSettings, Key, Server
from backends.llm.structured import parsed
from backends.opening import open_http
from orchestrator.llm.call import Call, ModelAnswer, calling
from orchestrator.reading import read_json


class OpenAIChat:
    """A model behind an OpenAI-compatible chat API.

    It may be made when a module is imported, and shared by everything in it: connections are made where they are
    needed, also after a fork and in any event loop. Inside a run each call has a span under the node attempt that
    makes it, and observers of the phase `llm` are told of it.

    Args:
        base_url: the URL in front of `/chat/completions`, such as `https://api.openai.com/v1`.
        model: the name of the model.
        api_key: the environment variable that holds the key, or the key in a `pydantic.SecretStr`; None sends none.
        options: see `ChatSettings`.

    Raises:
        ChatSettingsRefused: no call can be made with these settings.
        DriverMissing: httpx is not installed.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: SecretStr | str | None = None, **options: Unpack[ChatOptions]
    ) -> None:
        self.model = model
        self._key = Key(api_key)
        self._server = Server.at(base_url)
        self._settings = ChatSettings(**options)
        self._http = open_http(self._server, self._settings)

    def __repr__(self) -> str:
        return f"OpenAIChat({str(self._server)!r}, {self.model!r})"

    async def complete(
        self, messages: Sequence[Message], *, response_model: type[BaseModel] | None = None, **parameters: Any
    ) -> Completion:
        """Ask for the next message.

        Args:
            messages: what was said so far, as the API has it: `{"role": "user", "content": "..."}`.
            response_model: a pydantic class whose schema the answer is to follow; the instance is `parsed`.
            parameters: all else that the API takes: `temperature`, `max_tokens`, `tools`, ...

        Raises:
            ProviderError: nothing came of it; its category says why, and whether trying again may help.
        """
        question = Question(self.model, messages, parameters, response_model)
        content = question.content(self._server)
        with calling(question.told(self._server, self._settings)) as call:
            reply = await self._http.post(content, self._headers())
            return self._answered(call, question, reply)

    def complete_sync(
        self, messages: Sequence[Message], *, response_model: type[BaseModel] | None = None, **parameters: Any
    ) -> Completion:
        """As `complete`, for plain functions."""
        question = Question(self.model, messages, parameters, response_model)
        content = question.content(self._server)
        with calling(question.told(self._server, self._settings)) as call:
            reply = self._http.post_sync(content, self._headers())
            return self._answered(call, question, reply)

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of plain functions; a later call makes new ones."""
        await self._http.aclose()

    def close(self) -> None:
        """Close the connections of plain functions; a later call makes new ones."""
        self._http.close()

    async def __aenter__(self) -> "OpenAIChat":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _headers(self) -> dict[str, str]:
        try:
            key = self._key.header()
        except ValueError as error:
            raise ProviderAuthentication(str(self._server), f"nothing was sent: {error}") from None
        return {"content-type": "application/json", "accept": "application/json", **key}

    def _answered(self, call: Call, question: Question, reply: Reply) -> Completion:
        completion = self._completion(question, reply)
        call.answered(self._told(completion))
        if question.response_model is None:
            return completion
        return completion.model_copy(update={"parsed": parsed(question.response_model, completion, str(self._server))})

    def _completion(self, question: Question, reply: Reply) -> Completion:
        server = str(self._server)
        try:
            body = read_json(reply.content) if reply.is_success else None
            if has_refused(reply, body):
                raise refusal(reply, server, blocks=question.blocks, has_detail=self._settings.payload)
            return completion_of(body, reply)
        except ValueError as error:
            raise ProviderInvalidResponse(server, str(error), status=reply.status) from None

    def _told(self, completion: Completion) -> ModelAnswer:
        limit, is_shown = self._settings.payload_max_bytes, self._settings.payload
        return ModelAnswer(
            model=completion.model,
            id=completion.id,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            text=shown_text(completion.text or "", limit) if is_shown else None,
            messages=shown_answer(completion, limit) if is_shown else None,
        )
