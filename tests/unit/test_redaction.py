import logging

import pytest

from orchestrator import redaction
from orchestrator.log_line import SafeFormatter, on_one_line
from orchestrator.middleware.cause_chain import CUT, MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS, error_record
from orchestrator.redaction import STARS, WITHHELD, add_redactor, redacted, redacted_fields


@pytest.fixture(autouse=True)
def _no_redactors(monkeypatch):
    monkeypatch.setattr(redaction, "_redactors", [])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://app:p@ss/w@host:6379/0 is away", "redis://app:***@host:6379/0 is away"),
        ("https://ghp_abc@github.com/x", "https://***@github.com/x"),
        ("sent Bearer abc.def-ghi, got 401", "sent Bearer *** got 401"),
        ("401 for Authorization: Bearer abc.def-ghi", "401 for Authorization: ***"),
        ('{"password": "a \\"b\\" c", "user": "u"}', '{"password": ***, "user": "u"}'),
        ("connect(password='a b', user='u')", "connect(password=***, user='u')"),
        ('"{\\"password\\": \\"a b\\", \\"c\\": 1}"', '"{\\"password\\": ***"'),
        ("password='a'b c", "password=*** c"),
        ("AWS_SECRET_ACCESS_KEY=abc/def rest", "AWS_SECRET_ACCESS_KEY=*** rest"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- rest", "-----BEGIN PRIVATE KEY-----*** rest"),
    ],
)
def test_what_surrounds_a_secret_stays_readable(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ROLLFORWARD_SECRET must be the same on both sides",
        "the password must be longer than that",
        "redis://127.0.0.1:6379/0; start it, or check ROLLFORWARD_REDIS_URL",
        "missing key: 'a'",
        "bearer of news",
        "mail to somebody@example.org at https://example.org/a?b=c",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text):
    assert redacted(text) == text


def test_a_redactor_of_the_user_sees_what_the_known_shapes_have_left():
    add_redactor(lambda text: text.replace("customer 4711", "customer #"))
    assert redacted("customer 4711, password=x") == f"customer #, password={STARS}"
    assert error_record(ValueError("customer 4711")).message == "customer #"


def test_a_text_is_withheld_where_a_redactor_fails():
    add_redactor(lambda text: str(1 / 0))
    assert redacted("anything") == WITHHELD


def test_a_redactor_that_is_added_twice_is_called_once():
    seen = []

    def note(text: str) -> str:
        seen.append(text)
        return text

    add_redactor(note)
    add_redactor(note)
    redacted("one")
    assert seen == ["one"]


def test_a_field_that_is_named_like_a_secret_is_starred_whatever_it_holds():
    assert redacted_fields({"db_password": 1234, "facts": {"api_key": ["k"]}, "index": 3}) == {
        "db_password": STARS,
        "facts": {"api_key": STARS},
        "index": 3,
    }
    headers = {"x-api-key": "k", "proxy-authorization": "a", "client-secret": "s"}
    assert redacted_fields(headers) == dict.fromkeys(headers, STARS)


def test_a_secret_is_starred_before_a_long_text_is_cut():
    message = "x" * (MAX_MESSAGE_CHARACTERS - len(CUT) - 20) + " password=" + "s3cret-" * 9
    record = error_record(ValueError(message))
    assert "s3cret" not in record.message + record.traceback
    assert len(record.message) <= MAX_MESSAGE_CHARACTERS


def test_the_messages_of_a_long_chain_are_bounded_together():
    error = ValueError("m" * 4_000)
    for _ in range(40):
        outer = ValueError("m" * 4_000)
        outer.__cause__ = error
        error = outer
    record = error_record(error)
    assert len(record.chain) == 32
    assert [len(link.message) for link in record.chain[:5]] == [4_000] * 4 + [16 * 1024 - 16_000]
    assert sum(len(link.message) for link in record.chain) <= 16 * 1024 + 32 * len(CUT)


def test_the_names_in_an_error_are_of_bounded_length():
    long = type("E" * 9_999, (Exception,), {"category": "c" * 9_999})
    record = error_record(long())
    assert (len(record.type), len(record.category or "")) == (MAX_NAME_CHARACTERS, MAX_NAME_CHARACTERS)


def test_a_message_stays_on_its_line():
    record = logging.LogRecord("x", logging.INFO, "f.py", 1, "got %s", ("\x1b[2Jone\n[INFO] forged\u202e",), None)
    shown = SafeFormatter(logging.Formatter("%(levelname)s %(message)s")).format(record)
    assert shown == "INFO got \\x1b[2Jone\\n[INFO] forged\\u202e"
    assert on_one_line("tidy") == "tidy"
