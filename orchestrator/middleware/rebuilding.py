"""Exceptions from data: ours as what they were, a user's as `RemoteError`. Nothing is imported by its name."""

from dataclasses import replace
from typing import Any

from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.errors import (
    EdgeException,
    GraphError,
    InstanceLost,
    InstanceTimeLimitExceeded,
    ItemRefused,
    NodeException,
    ParallelBranchesBranchFailed,
    PayloadTooLarge,
    ReducerError,
    RemoteError,
    RollforwardError,
    RoutingError,
    StateNotSerializable,
    StateValidationError,
)
from orchestrator.observers.draining import ObserverNotAvailableInWorker

OURS: dict[str, type[RollforwardError]] = {
    kind.__name__: kind
    for kind in (
        EdgeException,
        InstanceLost,
        InstanceTimeLimitExceeded,
        ItemRefused,
        NodeException,
        ObserverNotAvailableInWorker,
        ParallelBranchesBranchFailed,
        PayloadTooLarge,
        ReducerError,
        RoutingError,
        StateNotSerializable,
        StateValidationError,
    )
}
"""What can end an instance, by the names that records carry."""


def rebuilt(record: ErrorRecord) -> Exception:
    """The exception that a record tells of, with its causes: `classify_cause_chain` says the same of it.

    One of ours has its class, category and message, and none of its other facts but the defaults of them.
    """
    links = record.chain or (CauseLink(record.category, record.message, record.type),)
    cause: Exception | None = None
    for position, link in reversed(list(enumerate(links))):
        error = _error(link, traceback=record.traceback if position == 0 else "")
        error.__cause__ = cause
        cause = error
    assert cause is not None
    return cause


def _error(link: CauseLink, *, traceback: str) -> Exception:
    kind = OURS.get(link.type)
    if kind is None or link.category is None:
        own = replace(link, carrier=False)
        return RemoteError(ErrorRecord(link.category, link.message, link.type, traceback, chain=(own,)))
    return _ours(kind, link)


def _ours(kind: type[RollforwardError], link: CauseLink) -> RollforwardError:
    # Its constructor takes facts that a record does not carry, and would write the sentence anew.
    error: Any = kind.__new__(kind)
    Exception.__init__(error, link.message)
    if isinstance(error, GraphError):
        error.node_name = ""
        error.recoverable_state = None
    if isinstance(error, ParallelBranchesBranchFailed):
        error.branch_name = ""
    if isinstance(error, NodeException):
        error.fan_out_category = None if link.category == kind.category else link.category
    else:
        error.category = link.category
    rebuilt_error: RollforwardError = error
    return rebuilt_error
