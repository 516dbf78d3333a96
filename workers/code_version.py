"""Which version of the user's code this process runs."""

import subprocess
from functools import cache
from importlib.metadata import packages_distributions, version

from workers.settings import Settings


def code_version(settings: Settings) -> str | None:
    """The configured one, else the version of the first graph's distribution, else the git commit here."""
    return settings.code_version or _found(settings.graphs)


# Looked up once, in the parent: a child that takes the place of another must be ready at once.
@cache
def _found(graphs: tuple[str, ...]) -> str | None:
    return _distribution_version(graphs) or _git_commit()


def _distribution_version(graphs: tuple[str, ...]) -> str | None:
    if not graphs:
        return None
    package = graphs[0].partition(":")[0].partition(".")[0]
    distributions = packages_distributions().get(package)
    return version(distributions[0]) if distributions else None


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
