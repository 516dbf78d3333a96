"""The whole durable state of one invocation, as `load` composes it and `seed` takes it apart."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.identity import Lineage


class InstanceState(StrEnum):
    """Where an instance stands in a record."""

    NOT_STARTED = "not_started"
    IN_FLIGHT = "in_flight"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePosition:
    """A completed node; `namespace` holds the names of the enclosing nodes, without its own."""

    namespace: tuple[str, ...]
    node_name: str
    step: int
    attempt_index: int = 0
    fan_out_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutInstanceProgress:
    """One instance of a fan-out: its contribution where it is completed."""

    state: InstanceState = InstanceState.NOT_STARTED
    result: Any = None
    result_is_error: bool = False
    completed_inner_positions: tuple[NodePosition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutProgress:
    """A fan-out that was entered and not folded yet.

    `result` of a completed instance is the mapping of subgraph field to JSON value, or the error record.
    """

    fan_out_node_name: str
    namespace: tuple[str, ...]
    instance_count: int
    instances: tuple[FanOutInstanceProgress, ...]
    enclosing_fan_out_lineage: Lineage = ()
    visit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """The whole record. States are JSON values of the typed codec; `parent_states` are outermost first."""

    run_id: str
    invocation_id: str
    correlation_id: str
    state: Any
    completed_positions: tuple[NodePosition, ...]
    last_saved_at: float
    parent_states: tuple[Any, ...] = ()
    schema_version: str = ""
    fan_out_progress: tuple[FanOutProgress, ...] = field(default=())
    graph: str = ""
    fingerprint: str = ""
