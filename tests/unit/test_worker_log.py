import io
import logging

from celery import signals
from celery.utils.log import ColorFormatter

from workers.application import build_worker_app
from workers.settings import Settings


def test_what_a_celery_worker_logs_by_itself_is_redacted_and_on_its_line():
    build_worker_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    logger, written = logging.getLogger("of a worker"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(ColorFormatter("%(levelname)s %(message)s", use_color=False))
    logger.addHandler(handler)
    signals.after_setup_logger.send(sender=None, logger=logger)
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        logger.exception("lost redis://u:%s@h\nforged", "hunter2")
    first, *rest = written.getvalue().splitlines()
    assert first == "ERROR lost redis://u:***@h\\nforged"
    assert rest[-1] == "    ValueError: password=***"
    assert "hunter2" not in written.getvalue()
