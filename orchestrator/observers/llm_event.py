"""What observers are told of calls of models."""

from collections.abc import Mapping
from dataclasses import dataclass

Parameters = Mapping[str, str | int | float | bool | tuple[str, ...]]
"""What was asked of a model beside the messages, by the names of the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens that a call took, as the server counts them; None where it does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
