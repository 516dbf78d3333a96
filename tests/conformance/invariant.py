"""What fixtures say of a run in a word: every word is a check of its own."""

from tests.conformance.document import Section, UnknownDirective
from tests.conformance.excerpt import Check
from tests.conformance.expectation import same
from tests.conformance.invariant_of_branch import OF_BRANCH
from tests.conformance.invariant_of_delivery import OF_DELIVERY
from tests.conformance.invariant_of_isolation import OF_ISOLATION
from tests.conformance.invariant_of_metadata import OF_METADATA
from tests.conformance.invariant_of_query import OF_QUERY
from tests.conformance.invariant_of_record import OF_RECORD
from tests.conformance.invariant_of_span import OF_SPAN
from tests.conformance.invariant_of_trace import OF_TRACE
from tests.conformance.running import Played, Run

INVARIANTS: dict[str, Check] = {
    **{**OF_DELIVERY, **OF_RECORD, **OF_ISOLATION, **OF_BRANCH},
    **{**OF_TRACE, **OF_SPAN, **OF_METADATA, **OF_QUERY},
}


def check_invariants(played: Played, run: Run, section: Section) -> None:
    """Hold every invariant of a section against the case; each gives the value that the fixture states.

    Raises:
        UnknownDirective: there is no check of that name.
    """
    for name in section.keys:
        if name not in INVARIANTS:
            raise UnknownDirective(f"{section.path}.{name}")
        expected = section.take(name)
        same(INVARIANTS[name](played, run, expected), expected, name)
