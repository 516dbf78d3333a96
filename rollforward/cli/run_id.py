"""The ids of runs that nobody named."""

import re
import secrets
import time

from orchestrator.errors import CallerError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class RunIdRefused(CallerError):
    """A run id that cannot be a part of keys and file names."""

    category = "run_id_refused"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"{run_id!r} cannot be a run id; use up to 64 letters, digits and . _ - (a letter or digit first)"
        )


def new_run_id() -> str:
    """A short id that sorts by time: milliseconds since 1970 and 30 random bits, in letters that are hard to mix up."""
    return f"r{_digits(time.time_ns() // 1_000_000, 9)}{_digits(secrets.randbits(30), 6)}"


def checked_run_id(run_id: str) -> str:
    """The id, as the user chose it.

    Raises:
        RunIdRefused: it has letters that an id cannot have.
    """
    if not _FORM.fullmatch(run_id):
        raise RunIdRefused(run_id)
    return run_id


def _digits(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(length)))
