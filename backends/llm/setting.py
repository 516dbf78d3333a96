"""How a model's API is called."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from backends.llm.error import ChatSettingsRefused

if TYPE_CHECKING:
    import httpx

DEFAULT_PAYLOAD_BYTES = 4096
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

_PATH = "/chat/completions"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class ChatOptions(TypedDict, total=False):
    """What `OpenAIChat` takes beside the server, the model and the key; see `ChatSettings`."""

    timeout: timedelta
    connect_timeout: timedelta
    read_timeout: timedelta
    max_connections: int
    headers: Mapping[str, str]
    provider: str
    payload: bool
    payload_max_bytes: int
    transport: "httpx.MockTransport | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """How a model's API is called.

    Args:
        timeout: how long a call may take, from the moment when it has a connection of its own.
        connect_timeout: how long making that connection may take.
        read_timeout: how long the server may be silent; at most the whole `timeout`.
        max_connections: how many calls are made at once by one event loop, or by all plain functions of a process;
            the others wait.
        headers: are sent with every call.
        provider: the name of the API in traces and events.
        payload: whether traces, events and error messages show what was sent and answered.
        payload_max_bytes: how much of it.
        transport: answers instead of the network, in tests.

    Raises:
        ChatSettingsRefused: with these there can be no call.
    """

    timeout: timedelta = timedelta(seconds=120)
    connect_timeout: timedelta = timedelta(seconds=10)
    read_timeout: timedelta = timedelta.max
    max_connections: int = 100
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    provider: str = "openai"
    payload: bool = False
    payload_max_bytes: int = DEFAULT_PAYLOAD_BYTES
    transport: "httpx.MockTransport | Any" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "read_timeout"):
            _demand(getattr(self, name) > timedelta(0), name, "a timedelta of more than 0")
        _demand(self.max_connections >= 1, "max_connections", "1 or more")
        _demand(self.payload_max_bytes >= 0, "payload_max_bytes", "0 or more")
        _demand(all(map(_is_sendable, self.headers.items())), "headers", "names and values of printable ASCII")


@dataclass(frozen=True, slots=True)
class Server:
    """Where calls go; its name in errors and traces holds neither user, path nor query."""

    url: str = field(repr=False)
    address: str
    port: int

    @classmethod
    def at(cls, base_url: str) -> "Server":
        """The server of a URL like `https://api.openai.com/v1`; a query stays behind the path.

        Raises:
            ChatSettingsRefused: it is no URL of HTTP.
        """
        try:
            parts = urlsplit(base_url)
            address, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            address = port = None
        is_http = bool(address and port) and parts.scheme in _DEFAULT_PORTS and base_url.isprintable()
        _demand(is_http, "base_url", "one like https://api.openai.com/v1 or http://localhost:8000/v1")
        # Clients log URLs.
        _demand("@" not in parts.netloc, "base_url", "one without a user, and what it needs as api_key or headers")
        url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + _PATH, parts.query, ""))
        return cls(url, str(address), int(port or 0))

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Key:
    """The key of an account, or the environment variable that holds it; it is read when a call is made."""

    given: SecretStr | str | None

    def __post_init__(self) -> None:
        is_name = not isinstance(self.given, str) or _VARIABLE.fullmatch(self.given) is not None
        _demand(is_name, "api_key", "the name of an environment variable, or the key itself in a pydantic.SecretStr")

    def header(self) -> dict[str, str]:
        """The header that carries it; none where there is no key, or the variable is not set.

        Raises:
            ValueError: no header can carry it.
        """
        told = os.environ.get(self.given, "") if isinstance(self.given, str) else self._secret()
        key = told.strip()
        if not key:
            return {}
        if not _is_sendable(("authorization", key)):
            raise ValueError("it has characters that no header carries")
        return {"authorization": f"Bearer {key}"}

    def _secret(self) -> str:
        return self.given.get_secret_value() if isinstance(self.given, SecretStr) else ""


def _is_sendable(header: tuple[str, str]) -> bool:
    return all(isinstance(part, str) and part.isascii() and part.isprintable() for part in header)


def _demand(is_fine: bool, setting: str, expected: str) -> None:
    if not is_fine:
        raise ChatSettingsRefused(setting, expected)
