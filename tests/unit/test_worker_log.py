import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import signals
from celery.utils.log import ColorFormatter, get_task_logger

from workers.application import build_worker_app
from workers.settings import Settings


@contextmanager
def logged(name: str) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that Celery has set up, and what it has written."""
    build_worker_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    logger, written = logging.getLogger(name), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(ColorFormatter("%(levelname)s %(message)s", use_color=False))
    logger.addHandler(handler)
    signals.after_setup_logger.send(sender=None, logger=logger)
    try:
        yield logger, written
    finally:
        logger.removeHandler(handler)


def test_what_a_celery_worker_logs_by_itself_is_redacted_and_on_its_line():
    with logged("of a worker") as (logger, written):
        try:
            raise ValueError("password=hunter2")
        except ValueError:
            logger.exception("lost redis://u:%s@h\nforged", "hunter2")
    first, *rest = written.getvalue().splitlines()
    assert first == "ERROR lost redis://u:***@h\\nforged"
    assert rest[-1] == "    ValueError: password=***"
    assert "hunter2" not in written.getvalue()


def test_the_facts_of_our_own_records_stand_behind_their_messages():
    facts = {
        "url": "http://h:1/metrics",
        "index": [3],
        "reason": "two\nlines",
        "api_key": "hunter2",
        "odd": {1: (b"x",)},
    }
    with logged("workers.metering") as (logger, written):
        logger.warning("metrics served", extra=facts)
    (line,) = written.getvalue().splitlines()
    assert line.startswith('WARNING metrics served url="http://h:1/metrics" index=[3] reason="two')
    assert "hunter2" not in line


@pytest.mark.parametrize("name", ["celery.worker.strategy", "a.module.of.a.user"])
def test_the_facts_of_others_are_left_where_they_put_them(name):
    with logged(name) as (logger, written):
        logger.warning("received", extra={"data": {"args": "what was sent"}})
    assert written.getvalue() == "WARNING received\n"


def test_a_task_logger_logs_where_all_others_do():
    build_worker_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    logger = logging.getLogger("celery.task")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    signals.after_setup_task_logger.send(sender=None, logger=logger)
    assert (logger.handlers, logger.propagate) == ([], True)
    assert get_task_logger("tests.of_task").getEffectiveLevel() == logging.getLogger().level
