import json
import logging

import pytest

from rollforward.log import formatter


def line_of(message: str, *arguments: object, **facts: object) -> str:
    record = logging.LogRecord("x", logging.WARNING, "f.py", 1, message, arguments, None)
    record.__dict__.update(facts)
    return formatter(is_terminal=False).format(record)


def test_a_line_is_one_json_object_with_its_facts():
    told = json.loads(line_of("instance recorded", run_id="r", index=3, places=("a", None, 0.5)))
    assert told.pop("timestamp")
    assert told == {
        "event": "instance recorded",
        "level": "warning",
        "run_id": "r",
        "index": 3,
        "places": ["a", None, 0.5],
    }


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_shows_no_secret_and_no_control_character_of_others(is_terminal):
    record = logging.LogRecord("x", logging.WARNING, "f.py", 1, "at %s", ("redis://u:hunter2@h\n\x1b]0;x\x07",), None)
    record.token_of_provider = "unnamed"
    record.api_key = "k-1234"
    shown = formatter(is_terminal=is_terminal).format(record)
    assert "hunter2" not in shown
    assert "k-1234" not in shown
    assert not {"\n", "\x07", "\x1b]"} & set(shown)
    assert "\x1b]" not in shown
