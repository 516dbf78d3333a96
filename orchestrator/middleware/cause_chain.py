"""An exception as data: what it says, what it was caused by, and where."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.errors import NodeException, ParallelBranchesBranchFailed, RemoteError
from orchestrator.redaction import redacted

MAX_TRACEBACK_BYTES = 16 * 1024
MAX_MESSAGE_CHARACTERS = 4096
MAX_CHAIN_CHARACTERS = 16 * 1024
MAX_NAME_CHARACTERS = 256
MAX_LINKS = 32
CUT = "[...]"


def classify_cause_chain(error: BaseException) -> tuple[CauseLink, ...]:
    """The exception and its causes, outermost first.

    A failed node or branch with a cause is a carrier: it says where, and its cause says what. An exception that
    came from another process brings the chain that it had there.
    """
    return tuple(_bounded(islice(_links(error), MAX_LINKS)))


def derived_link(chain: tuple[CauseLink, ...]) -> CauseLink:
    """The link that says what happened: the outermost that is no carrier, rather one with a category."""
    told = [link for link in chain if not link.carrier]
    categorised = [link for link in told if link.category]
    return (categorised or told or chain)[0]


def error_record(error: BaseException, *, with_traceback: bool = True) -> ErrorRecord:
    """An exception as data, without secrets. The traceback is text without values of variables, of 16 KiB at most."""
    chain = classify_cause_chain(error)
    told = derived_link(chain)
    text = _traceback(error) if with_traceback else ""
    return ErrorRecord(category=told.category, message=told.message, type=told.type, traceback=text, chain=chain)


def _links(error: BaseException) -> Iterator[CauseLink]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, RemoteError):
            yield from _remote(link.record)
        else:
            name = type(link).__name__[:MAX_NAME_CHARACTERS]
            yield CauseLink(_category(link), _message(link), name, carrier=_is_carrier(link))
        link = link.__cause__


def _bounded(links: Iterable[CauseLink]) -> Iterator[CauseLink]:
    """The links, the messages of which are cut where all together would be too long."""
    room = MAX_CHAIN_CHARACTERS
    for link in links:
        fits = len(link.message) <= max(room, len(CUT))
        yield link if fits else replace(link, message=link.message[: max(room - len(CUT), 0)] + CUT)
        room -= len(link.message)


def _remote(record: ErrorRecord) -> tuple[CauseLink, ...]:
    return record.chain or (CauseLink(record.category, record.message, record.type),)


def _is_carrier(error: BaseException) -> bool:
    return isinstance(error, NodeException | ParallelBranchesBranchFailed) and error.__cause__ is not None


def _category(error: BaseException) -> str | None:
    if isinstance(error, NodeException) and error.fan_out_category and not _is_carrier(error):
        return error.fan_out_category
    category = None
    with suppress(Exception):
        category = getattr(error, "category", None)
    return _sound(redacted(category))[:MAX_NAME_CHARACTERS] if isinstance(category, str) and category else None


def _message(error: BaseException) -> str:
    text = f"<a {type(error).__name__} that cannot be printed>"
    with suppress(Exception):
        text = _sound(redacted(str(error)))
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - len(CUT)] + CUT


def _sound(text: str) -> str:
    """The text with what no UTF-8 can hold escaped: some stores would refuse it."""
    return text.encode(errors="backslashreplace").decode()


def _traceback(error: BaseException) -> str:
    if isinstance(error, RemoteError) and error.record.traceback:
        return error.record.traceback
    # Before it is cut: what is left of a secret need not have its shape.
    text = redacted("".join(traceback.format_exception(error)))
    raw = text.encode(errors="replace")
    if len(raw) <= MAX_TRACEBACK_BYTES:
        return raw.decode()
    # The end says what was raised, and where.
    return f"{CUT}\n" + raw[len(CUT) + 1 - MAX_TRACEBACK_BYTES :].decode(errors="ignore")
