"""What fixtures expect of metadata, and of observers that nodes ask."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.errors import NodeException
from orchestrator.metadata import ReservedMetadata
from orchestrator.observers.event import Phase
from tests.conformance.document import UnknownDirective
from tests.conformance.expectation import Check, as_json, same
from tests.conformance.running import Played, Run


def _refused_at_the_boundary(played: Played, run: Run, expected: bool) -> None:
    is_refused = isinstance(run.error, ReservedMetadata) and isinstance(run.error, ValueError)
    same(is_refused and not run.events and not run.run_id, expected, "refused before any work")


def _refused_at_the_call(played: Played, run: Run, expected: bool) -> None:
    is_refused = isinstance(run.error, NodeException) and isinstance(run.error.__cause__, ReservedMetadata)
    names = {name for tree in run.forest.all for name in tree.user}
    same(is_refused and not names & {"step"} and bool(names), expected, "refused where it is called")


def _direct_call(played: Played, _run: Run, expected: Mapping[str, Any]) -> None:
    assert played.direct is not None
    value, error = played.direct
    for key, want in expected.items():
        match key:
            case "value":
                same(dict(value), want, "what the call gave")
            case "type":
                same("immutable_mapping" if isinstance(value, MappingProxyType) else type(value).__name__, want, key)
            case "exception":
                same(error, want, key)
            case _:
                raise UnknownDirective(f"direct_call_result.{key}")


def _bounds(_played: Played, run: Run, expected: Mapping[str, Mapping[str, int]]) -> None:
    """What an observer counted is at most what had been told when the last node began."""
    last = next(place for place, e in reversed(list(enumerate(run.nodes))) if e.phase is Phase.STARTED)
    for name, bounds in expected.items():
        same(set(bounds), {"min", "max"}, f"what is asked of {name}")
        actual = as_json(run.final)[name]
        same(last + 1, bounds["max"], f"the most that {name} can be")
        assert bounds["min"] <= actual <= bounds["max"], f"{name} is {actual}"


def _per_invocation(played: Played, _run: Run, expected: Mapping[str, Mapping[str, bool]]) -> None:
    same(list(expected), [run.name for run in played.runs], "the invocations")
    for run, checks in zip(played.runs, expected.values(), strict=True):
        final, other = as_json(run.final), as_json(played.runs[0].final)
        for name, value in checks.items():
            match name:
                case "captured_bucket_is_non_empty":
                    found = bool(final["captured_bucket"].get("events"))
                case "bucket_after_drop_is_absent":
                    found = final[name]
                case "captured_bucket_disjoint_from_invocation_1":
                    found = not {*final["captured_bucket"]["events"]} & {*other["captured_bucket"]["events"]}
                case _:
                    raise UnknownDirective(f"per_invocation.{run.name}.{name}")
            same(found, value, f"{run.name}.{name}")


OF_METADATA: dict[str, Check] = {
    "invoke_rejects_at_api_boundary": _refused_at_the_boundary,
    "augment_rejects_at_call_site": _refused_at_the_call,
    "direct_call_result": _direct_call,
    "final_state_bounds": _bounds,
    "per_invocation": _per_invocation,
}
