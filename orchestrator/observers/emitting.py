"""What middleware tells observers."""

from collections.abc import Mapping
from typing import Any

from orchestrator.observers.site import current_site


def emit_failure_isolated(
    event_name: str, *, pre_state: Any, post_state: Mapping[str, Any], error: BaseException
) -> None:
    """Tell that a failure of what runs here was caught and degraded; outside a run nobody is told."""
    site = current_site()
    if site is not None:
        site.isolated(event_name, pre_state=pre_state, post_state=post_state, error=error)
