"""Every error of the product.

RollforwardError
├── CallerError                   whoever called changes the graph, the input or the call
│   ├── CompileError              the graph does not compile; `category` names the rule
│   ├── StateValidationError      a value does not fit the state's schema
│   ├── StateNotSerializable      a value does not survive the typed codec
│   ├── PayloadTooLarge           one item or one result is over the limit
│   ├── ItemRefused               an item of a fan-out cannot be one; its cause says why
│   ├── GraphNotFound             no graph of that name is registered here
│   ├── CheckpointNotFound        no run or invocation of that id
│   ├── RunAmbiguous              the prefix fits several runs
│   ├── RunExists                 a run of that id is already kept
│   ├── RunIsDriven               a live orchestrator owns the run
│   ├── FingerprintMismatch       the run was made by another version of the graph
│   └── CheckpointRecordInvalid   the record does not fit the graph or the items
├── OperatorError                 whoever runs the deployment brings something back
│   ├── LedgerUnavailable         Redis cannot be reached, or refuses writes
│   ├── CheckpointUnavailable     the checkpoint store cannot be reached, or refuses writes
│   ├── BrokerUnavailable         a message cannot be published
│   ├── SealBroken                a report does not carry our code
│   └── SchemaMismatch            the store was made by another version of rollforward
├── GraphError                    a step of a run failed; the run can be resumed
│   ├── NodeException             a node raised
│   ├── ParallelBranchesBranchFailed  one of several branches failed
│   ├── EdgeException             a conditional edge raised
│   ├── ReducerError              a reducer refused an update
│   └── RoutingError              a conditional edge named no node
├── InstanceFailure               why an instance failed, where no user's exception says it
│   ├── InstanceLost              its workers died as often as is allowed
│   ├── InstanceTimeLimitExceeded it ran longer than its limit
│   └── RemoteError               a user's exception of another process, as data
├── RunCancelled                  the run was cancelled
├── Fenced                        another orchestrator owns the run; this one stops writing
└── LedgerLost                    the ledger was emptied or rolled back; `open` mends it

Those that only one place raises stand there, under the branch that fits:

CallerError     NameTooLong (orchestrator/fan_out/plan), TooManyFailures (orchestrator/execution/mapping),
                StateMigrationMissing, StateMigrationFailed, StateMigrationAmbiguous
                (orchestrator/checkpoint/migration), RecordOutdated, RunIsOver (orchestrator/checkpoint/protocol),
                ObserverNotAvailableInWorker (orchestrator/observers/draining), PackageMissing
                (orchestrator/status/rows), MetadataRefused, ReservedMetadata (orchestrator/metadata),
                CheckpointUrlUnknown, DriverMissing (backends/opening), SdkMissing
                (backends/telemetry), ExporterUnknown (backends/telemetry/otel), ChatSettingsRefused
                (backends/llm/error), RedisNotNamed (workers/opening), GraphModuleBroken (workers/graph_list),
                GraphNotLoaded (rollforward/graph_address), NotImportable (rollforward/mapping), FolderInUse
                (rollforward/embedded), InputFileRefused, LineRefused, NeedsDeployment, RunIdRefused, SettingsRefused,
                WorkerNeedsRedis (rollforward/cli), and there NothingKept and GraphUnknownHere, which say more than
                their base
OperatorError   EmbeddedUnavailable (rollforward/embedded), MetricsNotServed (backends/telemetry)
neither         MessageRefused (workers/message), DrivenElsewhere (rollforward/cli), ProviderError and under it
                ProviderAuthentication, ProviderInvalidModel, ProviderInvalidRequest, ProviderInvalidResponse,
                ProviderModelNotLoaded, ProviderPathUnknown, ProviderRateLimit, ProviderUnavailable,
                ProviderUnsupportedContentBlock, StructuredOutputInvalid (backends/llm/error)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.error_record import ErrorRecord


class RollforwardError(Exception):
    """The root; `category` is stable and the same for every error of one kind (None: a user's, who gave it none)."""

    category: str | None = "rollforward_error"


class CallerError(RollforwardError):
    """The caller changes the graph, the input or the call."""


class CompileError(CallerError):
    """The graph does not compile.

    Args:
        category: the rule that it breaks, as listed in the glossary.
        message: what is wrong and what to do.
        node: the node concerned, where there is one.
    """

    def __init__(self, category: str, message: str, *, node: str | None = None) -> None:
        self.category = category
        self.node = node
        super().__init__(message)


class StateValidationError(CallerError):
    """A value does not fit the state's schema; `fields` names where."""

    category = "state_validation_error"

    def __init__(self, message: str, *, fields: tuple[str, ...] = ()) -> None:
        self.fields = fields
        super().__init__(message)


class StateNotSerializable(CallerError):
    """A value does not come back equal from the typed codec."""

    category = "state_not_serializable"

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"field {field!r} cannot be kept: {reason}; give it a type that JSON can carry")


class PayloadTooLarge(CallerError):
    """One item or one result is over the limit."""

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        self.category = f"{what}_too_large"
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"this {what} has {size_bytes} bytes, the limit is {limit_bytes}; keep the bulk elsewhere and pass a "
            "reference, or raise ROLLFORWARD_MAX_ITEM_BYTES"
        )


class ItemRefused(CallerError):
    """An item of a fan-out cannot be one; `index` says which, and the category is the cause's."""

    def __init__(self, index: int, error: CallerError) -> None:
        self.index = index
        self.category = error.category
        super().__init__(f"item {index}: {error}")


class GraphNotFound(CallerError):
    """No graph of that name is registered in this process."""

    category = "worker_graph_unknown"

    def __init__(self, name: str, *, fingerprint: str | None = None) -> None:
        self.name = name
        self.fingerprint = fingerprint
        suffix = f" with fingerprint {fingerprint}" if fingerprint else ""
        super().__init__(f"no graph {name!r}{suffix} here; list its module in ROLLFORWARD_GRAPHS")


class CheckpointNotFound(CallerError):
    """No run or invocation of that id is kept."""

    category = "checkpoint_not_found"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"no run {run_id!r} in this store; `rollforward ls` lists what there is")


class RunAmbiguous(CallerError):
    """The prefix fits several runs."""

    category = "run_ambiguous"

    def __init__(self, prefix: str, matches: tuple[str, ...]) -> None:
        self.prefix = prefix
        self.matches = matches
        super().__init__(f"{prefix!r} fits {len(matches)} runs ({', '.join(matches[:3])}, ...); give more letters")


class RunExists(CallerError):
    """A run of that id is already kept."""

    category = "run_exists"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"a run {run_id!r} exists already; `rollforward resume {run_id}` goes on with it")


class RunIsDriven(CallerError):
    """A live orchestrator owns the run."""

    category = "run_is_driven"

    def __init__(self, run_id: str, owner: str) -> None:
        self.run_id = run_id
        self.owner = owner
        super().__init__(
            f"run {run_id} is being driven by {owner}; watch it with `rollforward status {run_id} --watch`, "
            "or try again when that process has ended"
        )


class FingerprintMismatch(CallerError):
    """The run was made by another version of the graph."""

    category = "graph_fingerprint_mismatch"

    def __init__(self, graph: str, recorded: str, present: str) -> None:
        self.graph = graph
        self.recorded = recorded
        self.present = present
        super().__init__(
            f"the run was made with {graph} {recorded}, the code here is {present}; go on with the old code, or "
            "move the run with `rollforward resume RUN --accept-code`"
        )


class CheckpointRecordInvalid(CallerError):
    """The record does not fit the graph or the items."""

    category = "checkpoint_record_invalid"


class OperatorError(RollforwardError):
    """Whoever runs the deployment brings something back; nothing is lost meanwhile."""


class LedgerUnavailable(OperatorError):
    """Redis cannot be reached, or refuses writes."""

    category = "ledger_unavailable"


class CheckpointUnavailable(OperatorError):
    """The checkpoint store cannot be reached, or refuses writes."""

    category = "checkpoint_unavailable"


class BrokerUnavailable(OperatorError):
    """A message cannot be published."""

    category = "broker_unavailable"


class SealBroken(OperatorError):
    """What was read does not carry the code of anyone who has our secret."""

    category = "seal_broken"

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the seal of {what} is not ours; ROLLFORWARD_SECRET must be the same on both sides")


class SchemaMismatch(OperatorError):
    """The store was made by another version of rollforward."""

    category = "schema_mismatch"


class GraphError(RollforwardError):
    """A step of a run failed; `recoverable_state` is the outer state before it, and the run can be resumed."""

    def __init__(self, message: str, *, node: str, recoverable_state: Any = None) -> None:
        self.node_name = node
        self.recoverable_state = recoverable_state
        super().__init__(message)


class NodeException(GraphError):
    """A node raised; the cause is the exception it raised."""

    category = "node_exception"
    fan_out_category: str | None = None

    def __init__(
        self,
        node: str,
        cause: BaseException | str,
        *,
        recoverable_state: Any = None,
        fan_out_category: str | None = None,
    ) -> None:
        self.fan_out_category = fan_out_category
        super().__init__(f"node {node!r} failed: {cause}", node=node, recoverable_state=recoverable_state)


class ParallelBranchesBranchFailed(GraphError):
    """One of several branches failed; the cause is what it raised."""

    category = "parallel_branches_branch_failed"

    def __init__(self, node: str, branch: str, cause: BaseException, *, recoverable_state: Any = None) -> None:
        self.branch_name = branch
        told = f"branch {branch!r} of node {node!r} failed: {cause}"
        super().__init__(told, node=node, recoverable_state=recoverable_state)


class EdgeException(GraphError):
    """A conditional edge raised; the cause is the exception it raised."""

    category = "edge_exception"

    def __init__(self, node: str, cause: BaseException, *, recoverable_state: Any = None) -> None:
        super().__init__(f"the edge out of {node!r} failed: {cause}", node=node, recoverable_state=recoverable_state)


class ReducerError(GraphError):
    """A reducer refused an update."""

    category = "reducer_error"

    def __init__(self, node: str, field: str, reducer: str, reason: str, *, recoverable_state: Any = None) -> None:
        self.field = field
        self.reducer = reducer
        super().__init__(
            f"reducer {reducer} of field {field!r} refused what node {node!r} returned: {reason}",
            node=node,
            recoverable_state=recoverable_state,
        )


class RoutingError(GraphError):
    """A conditional edge named no node."""

    category = "routing_error"

    def __init__(self, node: str, returned: object, *, recoverable_state: Any = None) -> None:
        self.returned = returned
        super().__init__(
            f"the edge out of {node!r} returned {returned!r}, which is no node of the graph; "
            "return a node's name or END",
            node=node,
            recoverable_state=recoverable_state,
        )


class InstanceFailure(RollforwardError):
    """Why an instance failed, where no user's exception says it."""


class InstanceLost(InstanceFailure):
    """Its workers died as often as is allowed."""

    category = "instance_lost"

    def __init__(self, deliveries: int, worker: str) -> None:
        self.deliveries = deliveries
        self.worker = worker
        super().__init__(
            f"the worker died {deliveries} times while it ran this instance (last: {worker}); look at the item, or at "
            "the memory limit of the worker"
        )


class InstanceTimeLimitExceeded(InstanceFailure):
    """It ran longer than its limit."""

    category = "instance_time_limit_exceeded"

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        super().__init__(f"the instance ran longer than its limit of {limit_seconds:g} s")


class RemoteError(InstanceFailure):
    """An exception as data, of another process or of this one: its own category, type name, message and traceback."""

    def __init__(self, record: "ErrorRecord", *, index: int | None = None) -> None:
        self.record = record
        self.category = record.category
        self.index = index
        where = "" if index is None else f"instance {index}: "
        super().__init__(f"{where}{record.type}: {record.message}")


class RunCancelled(RollforwardError):
    """The run was cancelled."""

    category = "run_cancelled"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"run {run_id} was cancelled and cannot go on; `rollforward results {run_id}` has what was done by then, "
            "and a new run is needed for the others"
        )


class Fenced(RollforwardError):
    """Another orchestrator owns the run; this one stops writing at once."""

    category = "orchestrator_fenced"

    def __init__(self, run_id: str, epoch: int) -> None:
        self.run_id = run_id
        self.epoch = epoch
        super().__init__(f"run {run_id} is owned by a later orchestrator than epoch {epoch}; this one stops")


class LedgerLost(RollforwardError):
    """The ledger was emptied or rolled back; opening it again from the record mends it."""

    category = "ledger_lost"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"the ledger knows nothing of run {run_id}; it is opened again from the record")
