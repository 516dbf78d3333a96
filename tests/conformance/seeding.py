"""Checkpoint records that fixtures put into a store."""

import time
from typing import Any

from orchestrator.checkpoint.record import (
    CheckpointRecord,
    FanOutInstanceProgress,
    FanOutProgress,
    InstanceState,
    NodePosition,
)
from orchestrator.compiled import CompiledGraph
from orchestrator.identity import EnclosingInstance
from tests.conformance.document import Section, UnknownDirective

RUN_ID = "seeded-run"


def seeded(section: Section, graph: CompiledGraph[Any]) -> CheckpointRecord:
    """The record of a `seeded_record` section."""
    return CheckpointRecord(
        run_id=RUN_ID,
        invocation_id=RUN_ID,
        correlation_id="seeded",
        state=section.take("state"),
        parent_states=tuple(section.take("parent_states", ())),
        completed_positions=tuple(_position(value) for value in section.take("completed_positions", ())),
        last_saved_at=time.time(),
        schema_version=section.take("schema_version", ""),
        fan_out_progress=tuple(_progress(one, graph) for one in section.listed("fan_out_progress")),
        graph=graph.name,
        fingerprint=graph.fingerprint,
    )


def _position(value: dict[str, Any]) -> NodePosition:
    unknown = set(value) - {"namespace", "node_name", "step", "attempt_index"}
    if unknown:
        raise UnknownDirective(f"completed_positions: {sorted(unknown)}")
    return NodePosition(
        namespace=tuple(value["namespace"]),
        node_name=value["node_name"],
        step=value["step"],
        attempt_index=value.get("attempt_index", 0),
    )


def _progress(section: Section, graph: CompiledGraph[Any]) -> FanOutProgress:
    namespace, name = tuple(section.take("namespace")), section.take("fan_out_node_name")
    collected = graph.fan_out_at((*namespace, name)).collect_field
    lineage = section.take("enclosing_fan_out_lineage", ())
    return FanOutProgress(
        fan_out_node_name=name,
        namespace=namespace,
        instance_count=section.take("instance_count"),
        enclosing_fan_out_lineage=tuple(
            EnclosingInstance(tuple(step["namespace"]), step["fan_out_node_name"], step["fan_out_index"])
            for step in lineage
        ),
        instances=tuple(_instance(value, collected) for value in section.take("instances")),
    )


def _instance(value: dict[str, Any], collected: str) -> FanOutInstanceProgress:
    unknown = set(value) - {"state", "result", "result_is_error"}
    if unknown:
        raise UnknownDirective(f"fan_out_progress.instances: {sorted(unknown)}")
    return FanOutInstanceProgress(
        state=InstanceState(value["state"]),
        result={collected: value["result"]} if "result" in value else None,
        result_is_error=value["result_is_error"],
    )
