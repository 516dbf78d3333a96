"""Log lines that hold no secret, and that nobody can forge."""

import copy
import logging
import re

from orchestrator.redaction import redacted

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINES = re.compile(f"[{_CONTROL}]")
_IN_LINE = re.compile(f"[\t\n{_CONTROL}]")


def on_one_line(text: str) -> str:
    """The text with every control character, line end and change of direction spelt out."""
    return _IN_LINE.sub(_spelt_out, text)


def on_lines(text: str) -> str:
    """As `on_one_line`, but tabs and line ends stay, and every line but the first is indented."""
    return _IN_LINES.sub(_spelt_out, text).replace("\n", "\n    ")


def _spelt_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


class SafeFormatter(logging.Formatter):
    """What another formatter makes of a record, redacted; a message is one line, and a traceback is indented."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        told = copy.copy(record)
        told.msg, told.args = on_one_line(redacted(record.getMessage())), None
        return on_lines(redacted(self._inner.format(told)))
