"""The metadata of a run, from what the command line says."""

import json
from collections.abc import Iterable
from typing import Any

from orchestrator.metadata import Metadata, MetadataRefused, checked


def metadata_of(assignments: Iterable[str]) -> Metadata:
    """What `--meta NAME=VALUE` says, each value as JSON where it is such, else as a text; the later of one name wins.

    Raises:
        MetadataRefused: one cannot be metadata.
    """
    return checked(dict(_assignment(text) for text in assignments))


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise MetadataRefused(f"--meta {text}: write --meta name=value, as in --meta tenant=acme")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
