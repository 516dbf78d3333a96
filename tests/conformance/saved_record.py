"""What fixtures say of a saved record."""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.checkpoint.record import CheckpointRecord, FanOutInstanceProgress, InstanceState
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.expectation import own_positions, positions_match, same
from tests.conformance.running import Played


def check_saved(played: Played, record: CheckpointRecord, section: Section) -> None:
    """Hold everything that a section says of a record."""
    for key in section.keys:
        if key not in SAVED:
            raise UnknownDirective(f"{section.path}.{key}")
        SAVED[key](played, record, section.take(key))


def _saved_progress(played: Played, record: CheckpointRecord, expected: Any) -> None:
    assert played.graph is not None
    if expected is None:
        same(record.fan_out_progress, (), "fan-outs in progress")
        return
    for name, want in expected.items():
        unknown = set(want) - {"instance_count", "instances"}
        if unknown:
            raise UnknownDirective(f"fan_out_progress.{name}: {sorted(unknown)}")
        (progress,) = [one for one in record.fan_out_progress if one.fan_out_node_name == name]
        collected = played.graph.fan_out_at((*progress.namespace, name)).collect_field
        same(progress.instance_count, want.get("instance_count", progress.instance_count), "instance count")
        instances = want.get("instances", [{}] * progress.instance_count)
        same(len(progress.instances), len(instances), "instances")
        for index, (instance, one) in enumerate(zip(progress.instances, instances, strict=True)):
            _saved_instance(instance, one, collected, f"{name}[{index}]")


def _fan_out_is_completed(played: Played, record: CheckpointRecord, expected: bool) -> None:
    assert played.graph is not None
    names = {name for name in played.graph.nodes if hasattr(played.graph.nodes[name], "collect_field")}
    found = any(position.node_name in names for position in record.completed_positions)
    same(found, expected, "the fan-out node among the completed positions")


def _saved_instance(instance: FanOutInstanceProgress, expected: Mapping[str, Any], collected: str, what: str) -> None:
    """One instance of a saved record."""
    for name, value in expected.items():
        match name:
            case "state":
                same(instance.state.value, value, f"{what}.state")
            case "state_one_of":
                assert instance.state in [InstanceState(one) for one in value], f"{what}.state is {instance.state}"
            case "result":
                same((instance.result or {}).get(collected), value, f"{what}.result")
            case "result_is_error":
                same(instance.result_is_error, value, f"{what}.result_is_error")
            case "result_present":
                same(instance.result is not None, value, f"{what}.result_present")
            case "completed_inner_positions":
                positions_match(instance.completed_inner_positions, value, what)
            case _:
                raise UnknownDirective(f"{what}.{name}")


SAVED: dict[str, Callable[[Played, CheckpointRecord, Any], None]] = {
    "completed_positions": lambda played, record, value: positions_match(
        own_positions(played, record), value, "saved positions"
    ),
    "state": lambda _p, record, value: same(record.state, value, "saved state"),
    "fan_out_progress": _saved_progress,
    "fan_out_node_in_completed_positions": _fan_out_is_completed,
    "parent_states_present": lambda _p, record, value: same(bool(record.parent_states), value, "parents"),
    "parent_states_outermost_first": lambda played, record, value: same(
        set(record.parent_states[0]) == set(played.graph.state_class.model_fields) if played.graph else False,
        value,
        "the outermost parent state first",
    ),
    "invocation_id": lambda _p, record, value: same(record.invocation_id, value, "invocation id"),
    "correlation_id": lambda _p, record, value: same(record.correlation_id, value, "correlation id"),
    "schema_version": lambda _p, record, value: same(record.schema_version, value, "schema version"),
    "last_saved_at": lambda _p, record, value: same(record.last_saved_at, value, "last saved at"),
    "parent_states": lambda _p, record, value: same(list(record.parent_states), value, "parent states"),
}
