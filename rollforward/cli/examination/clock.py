"""Clocks that differ."""

from rollforward.cli.examination.finding import Finding, warning, well

MOST_OFFSET_SECONDS = 1.0


def clock(check: str, offset_seconds: float, *, subject: str = "") -> Finding:
    """Judge by how much another clock is ahead of this host's."""
    found = f"{offset_seconds:+.2f} s from this host's"
    if abs(offset_seconds) <= MOST_OFFSET_SECONDS:
        return well(check, found, subject=subject)
    return warning(check, found, "bring the clocks together, with NTP on each host", subject=subject)
