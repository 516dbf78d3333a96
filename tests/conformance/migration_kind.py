"""The state migrations that fixtures name."""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.checkpoint.migration import StateMigration
from tests.conformance.document import Section, UnknownDirective
from tests.conformance.world import World


def migrations(sections: list[Section], world: World) -> list[StateMigration]:
    """The migrations of a list; each run is noted."""
    return [_one(section, world) for section in sections]


def _one(section: Section, world: World) -> StateMigration:
    source, target = section.take("from_version"), section.take("to_version")
    change = _change(section.take("migrate"), section.path)

    def migrate(state: dict[str, Any]) -> Mapping[str, Any]:
        world.migrations_run.append(f"{source}->{target}")
        return change(state)

    return StateMigration(source, target, migrate)


def _change(name: str, path: str) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    match name:
        case "add_new_field_default":
            return lambda state: {**state, "new_field": "v2_default"}
        case "add_v2_field":
            return lambda state: {**state, "v2_field": "v2_default"}
        case "add_v3_field":
            return lambda state: {**state, "v3_field": "v3_default"}
        case "identity_passthrough":
            return lambda state: state
        case "irrelevant" | "should_not_run":
            return _forbidden
        case "raises_keyerror":
            return lambda state: state["no such key"]
    raise UnknownDirective(f"{path}.migrate: {name}")


def _forbidden(_state: dict[str, Any]) -> Mapping[str, Any]:
    raise AssertionError("this migration must not run")
