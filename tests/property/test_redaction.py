"""No secret of a known shape survives in what is logged, recorded or shown."""

import json
import logging
import os
import string
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.execution.executor import Hint
from orchestrator.log_line import SafeFormatter
from orchestrator.middleware.cause_chain import error_record
from orchestrator.redaction import STARS, redacted
from rollforward.cli.failure import sentence_of
from rollforward.log import formatter
from workers.publisher import _shown

EXAMPLES = int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "150"))
PIECE = 8
LETTERS = string.ascii_letters + string.digits
NAMES: tuple[str, ...] = (
    "password",
    "passwd",
    "PASSWORD",
    "passphrase",
    "pwd",
    "secret",
    "client_secret",
    "SECRET_ACCESS_KEY",
)
NAMES += ("api_key", "apikey", "Api-Key", "access_key", "private-key", "access_token", "id_token", "credentials")
CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
BLACK = "".join(sorted(set(string.printable) - set(string.whitespace)))

searched = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    database=None,
)

Told = tuple[str, str]
"""A secret, and how a text comes to hold it."""


def words(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


names = st.builds(
    lambda before, name, after: before + name + after,
    st.sampled_from(["", "db_", "AWS_", "x-", "my."]),
    st.sampled_from(NAMES),
    st.sampled_from(["", "_1", "s"]),
)


def said(name: str, value: str, how: int) -> str:
    """A name and its value, as texts have them."""
    return (
        f"{name}={value}",
        f"{name}: {value}",
        f"{name} = {value!r}",
        f"{name}={value.encode()!r}",
        repr({name: value, "user": "u"}),
        json.dumps({"user": "u", name: value}),
        json.dumps({"body": json.dumps({name: value, "user": "u"})}),
    )[how]


bare_values = words(BLACK, 8, 40)
spoken_values = st.lists(words(BLACK, 2, 9), min_size=4, max_size=6).map(" ".join)
named = st.one_of(
    st.builds(lambda name, value, how: (value, said(name, value, how)), names, bare_values, st.integers(0, 1)),
    st.builds(lambda name, value, how: (value, said(name, value, how)), names, spoken_values, st.integers(2, 6)),
)
bearer = words(LETTERS + "-._~+/", 8, 60).flatmap(
    lambda token: st.sampled_from(
        [
            (token, f"Bearer {token}"),
            (token, f"bearer  {token}, then"),
            (token, repr({"Authorization": f"Bearer {token}"})),
            (token, f"Authorization: {token}"),
            (token, f"authorization: Basic {token}=="),
            (token, repr([("authorization", f"Token {token}")])),
        ]
    )
)
userinfo = st.builds(
    lambda scheme, user, password, host: (password, f"{scheme}://{user}:{password}@{host}/0"),
    st.sampled_from(["redis", "rediss", "https", "postgresql+psycopg"]),
    st.sampled_from(["", "app", "APP"]),
    st.one_of(words(BLACK, 8, 40), words(BLACK, 8, 40).map(lambda text: quote(text, safe=""))),
    st.sampled_from(["host:6379", "[::1]:6379", "h"]),
)
pem = st.builds(
    lambda kind, body, ends: (body, f"-----BEGIN {kind}-----\n{body}\n" + (f"-----END {kind}-----\n" if ends else "")),
    st.sampled_from(["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "CERTIFICATE"]),
    words(LETTERS + "+/=\n", 20, 200).filter(lambda body: body.strip() == body),
    st.booleans(),
)
tokens = st.one_of(
    words(LETTERS, 36, 36).map(lambda rest: f"ghp_{rest}"),
    words(LETTERS + "_", 30, 82).map(lambda rest: f"github_pat_{rest}"),
    words(string.ascii_uppercase + string.digits, 16, 16).map(lambda rest: f"AKIA{rest}"),
    words(string.ascii_uppercase + string.digits, 16, 16).map(lambda rest: f"ASIA{rest}"),
    words(LETTERS, 32, 48).map(lambda rest: f"sk-proj-{rest}"),
).flatmap(lambda token: st.sampled_from([(token, token), (token, f"key {token!r}"), (token, f"https://{token}@h/x")]))
tellings = st.one_of(named, bearer, userinfo, pem, tokens)
surroundings = words(BLACK + " \n", 0, 12)


def pieces(secret: str) -> set[str]:
    """What must not be seen of a secret: so many characters in a row, as they are or as encodings have them."""
    told = (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""))
    return {one[at : at + PIECE] for one in told for at in range(len(one) - PIECE + 1)}


def raised(text: str) -> Exception:
    """An error whose cause says the text."""
    try:
        try:
            raise ValueError(text)
        except ValueError as cause:
            raise RuntimeError("no answer") from cause
    except RuntimeError as error:
        return error


def log_record(text: str, *, is_message: bool) -> logging.LogRecord:
    error = raised(text)
    told: tuple[str, tuple[object, ...]] = ("told %s", (text,)) if is_message else ("failed", ())
    made = logging.LogRecord("x", logging.ERROR, "f.py", 1, *told, (type(error), error, error.__traceback__))
    made.fact = text
    made.facts = {"deep": [text, {"er": text.encode("utf-8", "surrogatepass")}]}
    return made


def as_record(text: str) -> str:
    return json.dumps(error_record(raised(text)).to_json(), ensure_ascii=False)


def as_json_line(text: str) -> str:
    return formatter(is_terminal=False).format(log_record(text, is_message=True))


def as_terminal_line(text: str) -> str:
    return formatter(is_terminal=True).format(log_record(text, is_message=False))


def as_plain_line(text: str) -> str:
    return SafeFormatter(logging.Formatter("%(message)s")).format(log_record(text, is_message=True))


def as_sentence(text: str) -> str:
    return sentence_of(ValueError(text))


def as_argument(text: str) -> str:
    hint = Hint(run_id="r", fan_out="f", index=0, generation=0, graph="g", fingerprint="p", label="g/f", key=text)
    return _shown(hint)


@pytest.mark.parametrize(
    "shown", [redacted, as_record, as_json_line, as_terminal_line, as_plain_line, as_sentence, as_argument]
)
@searched
@given(telling=tellings, before=surroundings, after=surroundings)
def test_no_secret_survives(shown: Callable[[str], str], telling: Told, before: str, after: str) -> None:
    secret, text = telling
    clear = f"{before} {text.replace(secret, STARS)} {after}"
    hidden = {piece for piece in pieces(secret) if piece not in clear + shown(clear)}
    seen = shown(f"{before} {text} {after}")
    assert {piece for piece in hidden if piece in seen} == set()


@searched
@given(telling=tellings, before=surroundings)
def test_what_is_redacted_stays_as_it_is(telling: Told, before: str) -> None:
    once = redacted(f"{before} {telling[1]}")
    assert redacted(redacted(once)) == redacted(once)


def is_plain(line: str) -> bool:
    """Whether it holds no control character, line end, half of a character or change of direction."""
    return not any(unicodedata.category(one) in CONTROLS or unicodedata.bidirectional(one) in TURNS for one in line)


@searched
@given(text=st.text(st.characters(), max_size=200))
def test_no_text_forges_a_line(text: str) -> None:
    for line in (as_json_line(text), as_argument(text)):
        assert is_plain(line), line
    lines = as_plain_line(text).split("\n")
    assert all(line.startswith("    ") for line in lines[1:])
    assert all(is_plain(line.replace("\t", "")) for line in lines)
