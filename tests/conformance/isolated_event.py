"""What fixtures say of the event of a failure that was isolated."""

from typing import Any

from tests.conformance.document import UnknownDirective
from tests.conformance.expectation import EVENT_FIELDS, as_json, failure_isolated, same
from tests.conformance.running import Played, Run


def isolated(_played: Played, run: Run, expected: Any) -> None:
    events = failure_isolated(run)
    same(len(events), 1, "failure isolation events")
    event = events[0]
    for name, value in expected.items():
        match name:
            case "event_name":
                same(event.event_name, value, name)
            case "pre_state" | "post_state":
                same(as_json(getattr(event, name)), value, name)
            case "wrapped_node_lineage":
                for field, want in value.items():
                    same(EVENT_FIELDS[field](event), want, field)
            case "caught_exception":
                _caught(event.caught_exception, value)
            case _:
                raise UnknownDirective(f"expected_failure_isolation_event.{name}")


def _caught(caught: Any, expected: Any) -> None:
    for name, value in expected.items():
        if name == "chain":
            same(len(caught.chain), len(value), "links")
            for link, want in zip(caught.chain, value, strict=True):
                for field, wanted in want.items():
                    same(getattr(link, field), wanted, f"link.{field}")
        elif name in ("category", "message"):
            same(getattr(caught, name), value, f"caught {name}")
        else:
            raise UnknownDirective(f"caught_exception.{name}")


def nothing_isolated(_played: Played, run: Run, expected: bool) -> None:
    same(not failure_isolated(run), expected, "no failure isolation event")
