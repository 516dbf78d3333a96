"""How long a server asks to be left alone."""

import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST = timedelta(days=7)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """What `retry-after-ms` or `Retry-After` say, the latter in seconds or as a date; None where neither can be read.

    A date is compared with the server's own clock, where it tells that: see RFC 9110, section 10.2.3.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    told = headers.get("retry-after")
    seconds = _number(told)
    if seconds is not None:
        return _bounded(seconds)
    moment = _moment(told)
    if moment is None:
        return None
    now = _moment(headers.get("date")) or datetime.now(UTC)
    return _bounded((moment - now).total_seconds())


def _bounded(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0), LONGEST.total_seconds()))


def _number(text: str | None) -> float | None:
    with suppress(ValueError):
        number = float(text or "")
        return number if math.isfinite(number) else None
    return None


def _moment(text: str | None) -> datetime | None:
    with suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(text or "")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
