"""What a model's API may be called with."""

import sys
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from backends.llm.chat import OpenAIChat
from backends.llm.error import ChatSettingsRefused
from backends.llm.setting import Server
from backends.opening import DriverMissing

URL = "https://api.example/v1"


@pytest.mark.parametrize(
    ("base_url", "url", "name"),
    [
        ("https://api.example/v1", "https://api.example/v1/chat/completions", "api.example:443"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions", "localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000/chat/completions", "::1:8000"),
        ("https://h/openai/d?api-version=1", "https://h/openai/d/chat/completions?api-version=1", "h:443"),
    ],
)
def test_a_server_is_known_by_the_url_in_front_of_the_path(base_url: str, url: str, name: str) -> None:
    server = Server.at(base_url)
    assert (server.url, str(server)) == (url, name)


@pytest.mark.parametrize(
    "base_url",
    ["", "api.example/v1", "ftp://api.example", "http://", "http://h:port", "http://h/\n", "http://u:pw@h/v1"],
)
def test_what_is_no_url_of_a_server_is_refused_without_showing_it(base_url: str) -> None:
    with pytest.raises(ChatSettingsRefused) as raised:
        OpenAIChat(base_url, "m")
    assert "base_url" in str(raised.value)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-1234567890", "lower_case", ""])
def test_a_key_is_not_taken_for_the_name_of_a_variable(key: str) -> None:
    with pytest.raises(ChatSettingsRefused, match="SecretStr") as raised:
        OpenAIChat(URL, "m", api_key=key)
    assert "sk-" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": timedelta(0)},
        {"connect_timeout": timedelta(seconds=-1)},
        {"read_timeout": timedelta(0)},
        {"max_connections": 0},
        {"payload_max_bytes": -1},
        {"headers": {"x-key": "hunter2\n"}},
        {"headers": {"x-key": "hünter2"}},
        {"headers": {"x-key": 2}},
    ],
)
def test_settings_with_which_nothing_can_be_sent_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ChatSettingsRefused, match=next(iter(options))) as raised:
        OpenAIChat(URL, "m", **options)
    assert "nter2" not in str(raised.value)


def test_what_is_printed_shows_no_key() -> None:
    chat = OpenAIChat(URL, "m", api_key=SecretStr("hunter2"), headers={"x-key": "hunter2"})
    assert repr(chat) == "OpenAIChat('api.example:443', 'm')"
    assert "hunter2" not in repr(vars(chat))


def test_without_httpx_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "backends.llm.transport", raising=False)
    with pytest.raises(DriverMissing, match=r"^this needs httpx, .*: pip install 'rollforward\[llm\]'$"):
        OpenAIChat(URL, "m")
