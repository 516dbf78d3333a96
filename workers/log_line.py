"""What Celery logs, as lines that hold no secret and that nobody can forge."""

from logging import Logger
from typing import Any

from billiard.util import get_logger
from celery import signals
from celery.utils.log import ColorFormatter

from orchestrator.log_line import SafeFormatter


def keep_lines_safe() -> None:
    """Have Celery's own handlers redact, whenever it sets them up."""
    signals.after_setup_logger.connect(_make_safe)
    signals.after_setup_task_logger.connect(_make_safe)


def _make_safe(logger: Logger, **_: Any) -> None:
    pool: Any = get_logger()
    for handler in (*logger.handlers, *pool.handlers):
        if isinstance(handler.formatter, ColorFormatter):
            handler.setFormatter(SafeFormatter(handler.formatter))
