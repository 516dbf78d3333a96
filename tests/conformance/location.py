"""Where the fixtures are, unless somebody says so."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

OWN = Path(__file__).parent / "own"
"""Ours, always there."""

SHARED = Path(__file__).parents[3] / "shared" / "conformance"
"""Those that lie beside this repository, where somebody put them."""

FIXTURES = "ROLLFORWARD_CONFORMANCE_FIXTURES"
"""The environment variable that tells workers the folders."""


def folders(asked: Path | None = None) -> list[Path]:
    """The one that was asked for, or ours and the shared one where it is."""
    if asked is not None:
        return [asked]
    return [OWN, SHARED] if SHARED.is_dir() else [OWN]


def told(folders: Sequence[Path]) -> dict[str, str]:
    """The environment of a worker that is to know these folders."""
    return {FIXTURES: os.pathsep.join(str(folder.absolute()) for folder in folders)}


def told_by(environment: Mapping[str, str]) -> list[Path]:
    """The folders that a worker was told."""
    return [Path(folder) for folder in environment[FIXTURES].split(os.pathsep)]
