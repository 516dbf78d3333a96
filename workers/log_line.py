"""What Celery's handlers log, as lines that hold no secret and that nobody can forge."""

import copy
import json
import logging
from collections.abc import Iterator
from logging import Logger
from typing import Any

from billiard.util import get_logger
from celery import signals
from celery.utils.log import ColorFormatter

from orchestrator.log_line import SafeFormatter
from orchestrator.redaction import redacted_fields

OURS = ("orchestrator", "backends", "workers", "rollforward")
_OF_ANY_RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}


class LineFormatter(SafeFormatter):
    """Makes lines safe, and puts the facts of our own records behind their messages: Celery's format has no place."""

    def format(self, record: logging.LogRecord) -> str:
        told = copy.copy(record)
        told.msg, told.args = " ".join((record.getMessage(), *_facts(record))), None
        return super().format(told)


def keep_lines_safe() -> None:
    """Have Celery's own handlers redact, whenever it sets them up."""
    signals.after_setup_logger.connect(_make_safe)
    signals.after_setup_task_logger.connect(_make_safe)


def log_tasks_in_one_place() -> None:
    """Have the loggers of Celery's `get_task_logger` log where all others do, and from the same level on."""
    signals.after_setup_task_logger.connect(_let_up)


def _let_up(logger: Logger, **_: Any) -> None:
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def _make_safe(logger: Logger, **_: Any) -> None:
    pool: Any = get_logger()
    for handler in (*logger.handlers, *pool.handlers):
        if isinstance(handler.formatter, ColorFormatter):
            handler.setFormatter(LineFormatter(handler.formatter))


def _facts(record: logging.LogRecord) -> Iterator[str]:
    if record.name.partition(".")[0] in OURS:
        told = {name: value for name, value in vars(record).items() if name not in _OF_ANY_RECORD}
        for name, value in redacted_fields(told).items():
            yield f"{name}={json.dumps(value, ensure_ascii=False)}"
