"""What is seen of one delivery of an instance while it runs: that it has begun, its span, and what it puts out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from orchestrator.instance.delivered import Delivered
from orchestrator.instance.ending import Ended
from orchestrator.instance.output import output_told
from orchestrator.observers.site import Site
from orchestrator.report import Outcome
from orchestrator.tracing.current import within
from orchestrator.tracing.span import CANCELLED, Span, as_step_failure


@contextmanager
def observed(delivered: Delivered, site: Site, started_at: datetime) -> Iterator[Callable[[Ended], None]]:
    """Tell of what happens in here; what is given takes how it ended. One that never ends was given up."""
    work, runtime = delivered.work, delivered.runtime
    delivered.voice.running(started_at)
    facts = {"fan_out.item_key": work.key, "delivery_attempt": work.delivery, "worker": runtime.worker}
    span = runtime.tracing.instance(site, delivered.briefing.trace, facts)
    output = output_told(site.frame, work, runtime.output, worker=runtime.worker, kept=delivered.shared.kept)
    try:
        with within(span), output as tell_error:

            def tell(ended: Ended) -> None:
                _end(span, ended)
                tell_error(ended.error)

            yield tell
    finally:
        span.end(CANCELLED)


def _end(span: Span, ended: Ended) -> None:
    span.note({"outcome": ended.outcome.value})
    stopped = CANCELLED if ended.outcome is Outcome.CANCELLED else None
    span.end(stopped if ended.error is None else as_step_failure(ended.error))
