"""What can go wrong with a call of a model."""

from collections.abc import Sequence
from datetime import timedelta

from orchestrator.errors import CallerError, RollforwardError


class ChatSettingsRefused(CallerError, ValueError):
    """A model's API cannot be called with these settings; none of their values is shown."""

    category = "chat_settings_refused"

    def __init__(self, setting: str, expected: str) -> None:
        self.setting = setting
        super().__init__(f"{setting} cannot be that; pass {expected}")


class ProviderError(RollforwardError):
    """A call of a model failed.

    Neither the key nor what was sent or answered is in the message. `detail` is what the server said of it, which may
    repeat what it was sent; `retry_after` is how long it asks to be left alone.
    """

    problem = "failed"
    advice = "look at the server"

    def __init__(
        self,
        server: str,
        reason: str,
        *,
        status: int | None = None,
        detail: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        self.server = server
        self.reason = reason
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        super().__init__(f"{server} {self.problem} ({reason}); {self.advice}")


class ProviderAuthentication(ProviderError):
    """The key is missing or wrong, or the account may not do this, or not any more."""

    category = "provider_authentication"
    problem = "does not serve whoever has this key"
    advice = "give OpenAIChat(api_key=) one that may call the model"


class ProviderInvalidRequest(ProviderError):
    """The request is not what the server takes; it will not be, however often it is sent."""

    category = "provider_invalid_request"
    problem = "takes no such request"
    advice = "change the messages or the parameters; with OpenAIChat(payload=True) errors hold the server's words"


class ProviderPathUnknown(ProviderInvalidRequest):
    """There is no chat API at the path that was asked."""

    problem = "has no chat API there"
    advice = "give OpenAIChat the base_url that stands before /chat/completions, such as https://api.openai.com/v1"


class ProviderInvalidModel(ProviderError):
    """The server has no model of that name."""

    category = "provider_invalid_model"
    problem = "has no such model"
    advice = "name one that it serves"


class ProviderInvalidResponse(ProviderError):
    """What was answered is no completion."""

    category = "provider_invalid_response"
    problem = "answered what is no completion"
    advice = "look whether base_url is that of a chat API"


class ProviderUnavailable(ProviderError):
    """The server is away, or does not answer in time; it may later."""

    category = "provider_unavailable"
    problem = "cannot be had now"
    advice = "try again later"


class ProviderRateLimit(ProviderError):
    """The server has had too many requests, or too many tokens; later it takes more."""

    category = "provider_rate_limit"
    problem = "is asked too much"
    advice = "try again after `retry_after`, or lower the fan-out's concurrency"


class ProviderModelNotLoaded(ProviderError):
    """The server has the model, and has not loaded it; it may later."""

    category = "provider_model_not_loaded"
    problem = "has not loaded the model"
    advice = "try again later, or load it"


class ProviderUnsupportedContentBlock(ProviderError):
    """The model does not take this kind of content: an image, sound or a file."""

    category = "provider_unsupported_content_block"
    problem = "takes no such content"
    advice = "leave it out, or ask a model that takes it"


class StructuredOutputInvalid(ProviderError):
    """What the model said does not fit the class that was asked for; `faults` name where, and the rule."""

    category = "structured_output_invalid"
    problem = "answered what does not fit the response_model"
    advice = "ask again, or describe the fields better"

    def __init__(self, server: str, reason: str, *, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__(server, ", ".join((reason, *self.faults)))
