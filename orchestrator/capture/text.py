"""Whole lines of what comes in pieces."""

import codecs
import re

from orchestrator.redaction import STARS

LONGEST_LINE = 65_536
"""Characters after which a line that does not end is taken as one."""

_LONGEST_KEY = 200
_KEY_BEGIN = re.compile("-----BEGIN [A-Z0-9 ]{1,40}-----")
_KEY_END = re.compile("-----END [A-Z0-9 ]{1,40}-----")


class TextOfPieces:
    """Gives the whole lines of one stream; bytes that are no UTF-8 are replaced.

    A key that goes on over many lines, and over many pieces, is left out from its second piece on: what has the shape
    of a secret can be told by each piece alone.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""
        self._lines_of_key = 0

    def feed(self, piece: str | bytes) -> str | None:
        """The lines that are whole by now, if any, without the end of the last one."""
        self._rest += piece if isinstance(piece, str) else self._decode(piece)
        whole, end, rest = self._rest.rpartition("\n")
        if len(rest) >= LONGEST_LINE:
            whole, end, rest = self._rest, "\n", ""
        self._rest = rest
        return self._clean(whole) if end else None

    def finish(self) -> str | None:
        """What is left, as a line that did not end."""
        rest, self._rest = self._rest + self._decode(b"", final=True), ""
        return self._clean(rest) if rest else None

    def _clean(self, text: str) -> str | None:
        text = plain(text).replace("\r\n", "\n")
        if self._lines_of_key:
            end = _KEY_END.search(text)
            self._lines_of_key += text.count("\n") + 1
            if end is None and self._lines_of_key < _LONGEST_KEY:
                return None
            text = text if end is None else STARS + text[end.end() :]
        self._lines_of_key = int(_ends_within_key(text))
        return text


def plain(text: str) -> str:
    """The text without what no store can keep."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _ends_within_key(text: str) -> bool:
    """Whether a key begins in the text that does not end in it."""
    begins = [found.end() for found in _KEY_BEGIN.finditer(text)] if "-----BEGIN" in text else []
    return bool(begins) and _KEY_END.search(text, begins[-1]) is None
