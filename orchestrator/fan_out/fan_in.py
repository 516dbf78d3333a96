"""Contributions in, one partial update of the outer state out; pure, so that it may be done again after a crash."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.fan_out.fold import Fold, fold_hash
from orchestrator.report import Outcome, Report

if TYPE_CHECKING:
    from orchestrator.graph.node import FanOutNode


def fan_in(node: "FanOutNode", reports: Sequence[Report]) -> dict[str, Any]:
    """Fold contributions in index order into the fan-out node's partial update.

    Each target gets the list of its per-instance values in one merge. A failed instance has no place in these lists;
    a degraded one that left a field out has None there.
    """
    succeeded = [report for report in reports if report.outcome is Outcome.SUCCEEDED]
    partials = [node.subgraph.codec.load_fields(report.partial or "{}") for report in succeeded]
    targets = {node.target_field: node.collect_field, **(node.extra_outputs or {})}
    update: dict[str, Any] = {target: [partial.get(field) for partial in partials] for target, field in targets.items()}
    if node.errors_field is not None:
        update[node.errors_field] = [error_entry(report) for report in reports if report.error is not None]
    if node.count_field is not None:
        update[node.count_field] = len(reports)
    return update


def fold_of(fan_out: str, reports: Sequence[Report]) -> Fold:
    """What fan-in keeps, so that `verify` can compare."""
    pairs = ((report.slot.index, report.hash) for report in reports)
    return Fold(fan_out, len(reports), fold_hash(pairs))


def error_entry(report: Report) -> dict[str, str]:
    """A failed instance as users find it in `errors_field`; every value is text, also the index."""
    error = report.error
    return {
        "fan_out_index": str(report.slot.index),
        "category": "node_exception" if error is None else error.shown_category,
        "message": "" if error is None else error.message,
        "type": "" if error is None else error.type,
        "traceback": "" if error is None else error.traceback,
        "attempt": str(report.attempts - 1),
        "delivery": str(report.delivery),
        "worker": report.worker,
    }
