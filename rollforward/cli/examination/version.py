"""The versions that this installation runs with."""

import importlib.metadata
import re
from collections.abc import Iterator

from rollforward.cli.examination.finding import Finding, refused, well
from workers.settings import Settings

_FITTING = {"celery": ((5, 7), (5, 8)), "kombu": ((5, 7), (5, 8)), "redis": ((8, 1), (9,))}


def versions(_: Settings) -> Iterator[Finding]:
    """Celery, kombu and the client of Redis: older ones lose messages, newer ones are not known."""
    for name, (lowest, above) in _FITTING.items():
        text = importlib.metadata.version(name)
        version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
        wanted = f">={'.'.join(map(str, lowest))},<{'.'.join(map(str, above))}"
        if lowest <= version < above:
            yield well("version", text, subject=name)
        else:
            yield refused("version", f"{text} is not supported", f"install '{name}{wanted}'", subject=name)
