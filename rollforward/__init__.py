"""Durable fan-out over Celery workers: kill anything, resume, and no finished instance runs twice."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rollforward.homes import HOMES
from rollforward.neighbour import check_neighbours

if TYPE_CHECKING:
    from backends.llm.chat import OpenAIChat
    from backends.llm.completion import Completion
    from backends.llm.error import ProviderError
    from backends.opening import open_logs, open_status
    from backends.telemetry.otel.observer import OTelObserver
    from backends.telemetry.otel.options import TracingOptions
    from orchestrator.capture.line import LogLine, LogStream
    from orchestrator.capture.log_observer import LoggingObserver
    from orchestrator.capture.log_store import LogRow, LogStore, MemoryLogStore, read_logs
    from orchestrator.capture.logger import instance_logger
    from orchestrator.checkpoint.migration import (
        StateMigration,
        StateMigrationAmbiguous,
        StateMigrationFailed,
        StateMigrationMissing,
    )
    from orchestrator.checkpoint.protocol import RecordOutdated
    from orchestrator.compiled import CompiledGraph
    from orchestrator.context import (
        current_attempt_index,
        current_correlation_id,
        current_fan_out_index,
        current_invocation_id,
        current_item_key,
        current_lineage,
        current_namespace,
        current_run_id,
        idempotency_key,
        is_cancelled,
        token,
    )
    from orchestrator.correlation import CorrelationFilter, add_correlation, correlation
    from orchestrator.errors import (
        BrokerUnavailable,
        CallerError,
        CheckpointNotFound,
        CheckpointRecordInvalid,
        CheckpointUnavailable,
        CompileError,
        EdgeException,
        Fenced,
        FingerprintMismatch,
        GraphError,
        GraphNotFound,
        InstanceFailure,
        InstanceLost,
        InstanceTimeLimitExceeded,
        LedgerLost,
        LedgerUnavailable,
        NodeException,
        OperatorError,
        ParallelBranchesBranchFailed,
        PayloadTooLarge,
        ReducerError,
        RemoteError,
        RollforwardError,
        RoutingError,
        RunAmbiguous,
        RunCancelled,
        RunExists,
        RunIsDriven,
        SchemaMismatch,
        SealBroken,
        StateNotSerializable,
        StateValidationError,
    )
    from orchestrator.execution.local import LocalExecutor
    from orchestrator.graph.builder import GraphBuilder
    from orchestrator.graph.edge import END
    from orchestrator.graph.node import BranchSpec
    from orchestrator.graph.projection import DeclaredSameName, ExplicitMapping, FieldNameMatching, Projection
    from orchestrator.llm.event import LlmCompletionEvent, LlmFailedEvent
    from orchestrator.metadata import MetadataRefused, ReservedMetadata
    from orchestrator.middleware.cause_chain import classify_cause_chain
    from orchestrator.middleware.failure_isolation import FailureIsolationMiddleware
    from orchestrator.middleware.retry import (
        RetryConfig,
        RetryMiddleware,
        default_classifier,
        deterministic_backoff,
        exponential_jitter_backoff,
    )
    from orchestrator.middleware.timing import TimingMiddleware, TimingRecord
    from orchestrator.observers.composite import CompositeObserver
    from orchestrator.observers.delivery import DrainSummary
    from orchestrator.observers.draining import ObserverNotAvailableInWorker, drain_events_for
    from orchestrator.observers.event import (
        CaughtException,
        CheckpointSavedEvent,
        FailureIsolatedEvent,
        InstanceEvent,
        InstanceLogEvent,
        InstanceState,
        InvocationEvent,
        InvocationState,
        NodeEvent,
        Phase,
        SaveKind,
        StateLeftOut,
    )
    from orchestrator.observers.subscription import Observer, RemoveHandle
    from orchestrator.redaction import add_redactor
    from orchestrator.reducer import (
        Reducer,
        append,
        bounded_append,
        concat_flatten,
        dedupe_append,
        last_write_wins,
        merge,
        merge_all,
        merge_by_key,
    )
    from orchestrator.scope import get_invocation_metadata, set_invocation_metadata
    from orchestrator.state import State
    from orchestrator.status.observer import StatusObserver
    from orchestrator.status.row import StatusRow
    from orchestrator.status.rows import StatusRows
    from orchestrator.status.store import MemoryStatusStore, StatusStore, get_status
    from rollforward.mapping import ItemResult, MapHandle, MapOptions, MapRun, map, start_map
    from workers.dispatch import CeleryExecutor

__all__ = [
    "END",
    "BranchSpec",
    "BrokerUnavailable",
    "CallerError",
    "CaughtException",
    "CeleryExecutor",
    "CheckpointNotFound",
    "CheckpointRecordInvalid",
    "CheckpointSavedEvent",
    "CheckpointUnavailable",
    "CompileError",
    "CompiledGraph",
    "Completion",
    "CompositeObserver",
    "CorrelationFilter",
    "DeclaredSameName",
    "DrainSummary",
    "EdgeException",
    "ExplicitMapping",
    "FailureIsolatedEvent",
    "FailureIsolationMiddleware",
    "Fenced",
    "FieldNameMatching",
    "FingerprintMismatch",
    "GraphBuilder",
    "GraphError",
    "GraphNotFound",
    "InstanceEvent",
    "InstanceFailure",
    "InstanceLogEvent",
    "InstanceLost",
    "InstanceState",
    "InstanceTimeLimitExceeded",
    "InvocationEvent",
    "InvocationState",
    "ItemResult",
    "LedgerLost",
    "LedgerUnavailable",
    "LlmCompletionEvent",
    "LlmFailedEvent",
    "LocalExecutor",
    "LogLine",
    "LogRow",
    "LogStore",
    "LogStream",
    "LoggingObserver",
    "MapHandle",
    "MapOptions",
    "MapRun",
    "MemoryLogStore",
    "MemoryStatusStore",
    "MetadataRefused",
    "NodeEvent",
    "NodeException",
    "OTelObserver",
    "Observer",
    "ObserverNotAvailableInWorker",
    "OpenAIChat",
    "OperatorError",
    "ParallelBranchesBranchFailed",
    "PayloadTooLarge",
    "Phase",
    "Projection",
    "ProviderError",
    "RecordOutdated",
    "Reducer",
    "ReducerError",
    "RemoteError",
    "RemoveHandle",
    "ReservedMetadata",
    "RetryConfig",
    "RetryMiddleware",
    "RollforwardError",
    "RoutingError",
    "RunAmbiguous",
    "RunCancelled",
    "RunExists",
    "RunIsDriven",
    "SaveKind",
    "SchemaMismatch",
    "SealBroken",
    "State",
    "StateLeftOut",
    "StateMigration",
    "StateMigrationAmbiguous",
    "StateMigrationFailed",
    "StateMigrationMissing",
    "StateNotSerializable",
    "StateValidationError",
    "StatusObserver",
    "StatusRow",
    "StatusRows",
    "StatusStore",
    "TimingMiddleware",
    "TimingRecord",
    "TracingOptions",
    "add_correlation",
    "add_redactor",
    "append",
    "bounded_append",
    "classify_cause_chain",
    "concat_flatten",
    "correlation",
    "current_attempt_index",
    "current_correlation_id",
    "current_fan_out_index",
    "current_invocation_id",
    "current_item_key",
    "current_lineage",
    "current_namespace",
    "current_run_id",
    "dedupe_append",
    "default_classifier",
    "deterministic_backoff",
    "drain_events_for",
    "exponential_jitter_backoff",
    "get_invocation_metadata",
    "get_status",
    "idempotency_key",
    "instance_logger",
    "is_cancelled",
    "last_write_wins",
    "map",
    "merge",
    "merge_all",
    "merge_by_key",
    "open_logs",
    "open_status",
    "read_logs",
    "set_invocation_metadata",
    "start_map",
    "token",
]


def __getattr__(name: str) -> Any:
    # What is not asked for is not imported: `rollforward --help` must be quick, and a graph needs no Celery.
    home = next((home for home, names in HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


check_neighbours()
