"""From what a server answers to an error with a category."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from backends.llm.patience import LONGEST, retry_after
from backends.llm.refusal import has_refused, refusal
from backends.llm.reply import Reply

SERVER = "api.example:443"
SECRET = "sk-" + "a" * 30


def reply(status: int, body: Any = "", **headers: str) -> Reply:
    content = body if isinstance(body, str) else json.dumps(body)
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content.encode())


def error(message: str = "", **facts: Any) -> dict[str, Any]:
    return {"error": {"message": message, **facts}}


def broken_off(choice: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """A completion whose first choice is this; `facts` are of an error beside it."""
    around = error(**facts) if facts else {}
    return {"id": "1", "choices": [{"message": {"content": "half of "}, **choice}], **around}


@pytest.mark.parametrize(
    ("status", "body", "category"),
    [
        (401, error("no"), "provider_authentication"),
        (402, "", "provider_authentication"),
        (403, "<html>", "provider_authentication"),
        (429, error("spent", code="insufficient_quota"), "provider_authentication"),
        (429, error("slower"), "provider_rate_limit"),
        (429, "", "provider_rate_limit"),
        (400, error("bad"), "provider_invalid_request"),
        (400, error("x", code="model_not_found"), "provider_invalid_model"),
        (404, error("The model `m` does not exist", type="NotFoundError", code=404), "provider_invalid_model"),
        (404, {"error": "model 'm' not found, try pulling it first"}, "provider_invalid_model"),
        (404, {"detail": "Not Found"}, "provider_invalid_request"),
        (404, error("No models loaded. Load one first"), "provider_model_not_loaded"),
        (503, error("Loading model", type="unavailable_error", code=503), "provider_model_not_loaded"),
        (503, {"error": "Model m is currently loading", "estimated_time": 20.0}, "provider_model_not_loaded"),
        (503, error("overloaded"), "provider_unavailable"),
        (500, "", "provider_unavailable"),
        (502, "<html>bad gateway</html>", "provider_unavailable"),
        (529, error("overloaded"), "provider_unavailable"),
        (408, "", "provider_unavailable"),
        (409, "", "provider_unavailable"),
        (501, "", "provider_invalid_request"),
        (405, "", "provider_invalid_request"),
        (413, "", "provider_invalid_request"),
        (422, {"detail": [{"loc": ["body"]}]}, "provider_invalid_request"),
        (301, "", "provider_invalid_request"),
        (415, "", "provider_unsupported_content_block"),
        (400, error("'image_url' is not supported by this model"), "provider_unsupported_content_block"),
        (200, {"error": {"message": "slower", "code": 429}}, "provider_rate_limit"),
        (200, {"error": {"message": "what?"}}, "provider_invalid_response"),
        (404, [error("models/m is not found for API version v1main", code=404)], "provider_invalid_model"),
        (429, [error("quota", code=429)], "provider_rate_limit"),
        (400, [error("x", code="model_not_loaded")], "provider_model_not_loaded"),
        (200, [error("slower", code=429)], "provider_rate_limit"),
        (200, broken_off({"error": {"code": 502, "message": "Provider disconnected"}}), "provider_unavailable"),
        (200, broken_off({"error": {"code": 429}}), "provider_rate_limit"),
        (200, broken_off({"error": {"code": 400}}), "provider_invalid_request"),
        (200, broken_off({"finish_reason": "error"}), "provider_unavailable"),
        (200, broken_off({"finish_reason": "error"}, code=403), "provider_authentication"),
    ],
)
def test_a_refusal_has_the_category_of_its_status_and_body(status: int, body: Any, category: str) -> None:
    assert refusal(reply(status, body), SERVER, blocks=("image_url",)).category == category


def test_content_that_was_not_sent_is_not_what_was_refused() -> None:
    told = reply(400, error("'image_url' is not supported by this model"))
    assert refusal(told, SERVER).category == "provider_invalid_request"


def test_what_the_server_says_is_in_the_message_only_where_payload_is_shown() -> None:
    told = reply(400, error(f"you said: the cat sat, with {SECRET}", code="context_length_exceeded", param="messages"))
    quiet, open_ = refusal(told, SERVER), refusal(told, SERVER, has_detail=True)
    assert str(quiet).startswith(
        "api.example:443 takes no such request (HTTP 400 context_length_exceeded messages); change the messages"
    )
    assert "the cat sat" in str(open_)
    assert quiet.detail == open_.detail == "you said: the cat sat, with ***"
    assert SECRET not in f"{quiet!r}{open_!r}"


def test_words_of_the_server_that_are_no_codes_are_not_told() -> None:
    told = reply(400, error("x", code="the cat sat", type=["a"], param={"b": 1}))
    assert "(HTTP 400)" in str(refusal(told, SERVER))


def test_an_answer_with_choices_is_no_refusal() -> None:
    assert not has_refused(reply(200), {"choices": [1], "error": {"message": "partly"}})
    assert not has_refused(reply(200), {"choices": []})
    assert has_refused(reply(200), {"error": "no"})
    assert has_refused(reply(500), None)


@pytest.mark.parametrize(
    "body",
    [[error("slower")], broken_off({"error": {"code": 502}}), broken_off({"finish_reason": "error"})],
    ids=["in a list", "of a choice", "a choice that ended so"],
)
def test_an_error_with_status_200_is_a_refusal_in_every_form(body: Any) -> None:
    assert has_refused(reply(200), body)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, {"detail": "Not Found"}), (404, "<html>"), (405, ""), (307, ""), (404, error("Invalid URL (POST /v2)"))],
)
def test_a_path_that_the_server_does_not_have_is_a_base_url_to_mend(status: int, body: Any) -> None:
    told = str(refusal(reply(status, body), SERVER))
    assert "base_url" in told
    assert "parameters" not in told


@pytest.mark.parametrize("body", ["[]", "null", "3", '"text"', "{", "[" * 100_000, '{"error": []}', "\udcff"])
def test_no_body_makes_a_refusal_fail(body: str) -> None:
    told = Reply(500, {}, body.encode(errors="surrogateescape"))
    assert refusal(told, SERVER).category == "provider_unavailable"


NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after": format_datetime(NOW + timedelta(minutes=2)), "date": format_datetime(NOW)}, 120),
        ({"retry-after": format_datetime(NOW), "date": format_datetime(NOW + timedelta(minutes=2))}, 0),
        ({"retry-after": "Mon, 05 Jan 2026 12:00:30 GMT", "date": "Mon, 05 Jan 2026 12:00:00 GMT"}, 30),
        ({"retry-after": "Mon, 05 Jan 2026 12:00:30 GMT"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e300"}, LONGEST.total_seconds()),
    ],
)
def test_what_a_server_asks_to_wait_is_read_in_every_form(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == timedelta(seconds=seconds)


@pytest.mark.parametrize("told", ["", "soon", "nan", "inf", "Mon, 99 Jan 2026 12:00:30 GMT", "Mon, 05 Jan"])
def test_what_cannot_be_read_asks_for_nothing(told: str) -> None:
    assert retry_after({"retry-after": told}) is None
    assert retry_after({}) is None


def test_a_refusal_says_how_long_to_wait() -> None:
    assert refusal(reply(503, "", retry_after="2"), SERVER).retry_after == timedelta(seconds=2)
    assert refusal(reply(429), SERVER).retry_after is None
