"""Logs of long-lived processes, on stderr: JSON lines, or plain words on a terminal."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from orchestrator.correlation import CorrelationFilter
from orchestrator.log_line import on_lines, on_one_line
from orchestrator.redaction import redacted_fields

_ON_LINES = frozenset(("exception", "stack", "stack_info"))


def configure_logging(level: str = "INFO") -> None:
    """Send every log record and every warning of this process to stderr, without secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(CorrelationFilter())
    handler.setFormatter(formatter(is_terminal=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # It tells of every connection that its own parts are there.
    logging.getLogger("alembic").setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(True)


def formatter(*, is_terminal: bool) -> logging.Formatter:
    """What makes a line of a record."""
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_BEFORE,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _made_safe, render],
    )


def _made_safe(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
    """The fields without secrets, nor characters that would make a line look like another."""
    safe = redacted_fields(fields)
    return {on_one_line(name): _plain(safe[name], on_lines if name in _ON_LINES else on_one_line) for name in safe}


def _plain(value: Any, spell: Any) -> Any:
    if isinstance(value, str):
        return spell(value)
    if isinstance(value, dict):
        return {spell(name): _plain(value[name], spell) for name in value}
    return [_plain(one, spell) for one in value] if isinstance(value, list) else value


_BEFORE: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]
