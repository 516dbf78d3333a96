from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest

from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import Slot
from orchestrator.report import Outcome, Report

ERROR = ErrorRecord(
    category="node_exception",
    message="bad 😀 \ud800 \x00 value",
    type="ValueError",
    traceback="Traceback ...",
    chain=(
        CauseLink("node_exception", "node failed", "NodeException", carrier=True),
        CauseLink(None, "bad", "ValueError"),
    ),
)
REPORT = Report(
    slot=Slot("f", 3, 1),
    outcome=Outcome.FAILED,
    token="t",
    delivery=2,
    worker="w",
    invocation_id="i",
    started_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    duration_seconds=1.25,
    attempts=3,
    error=ERROR,
    code_version="v1",
    folds=(Fold("inner", 4, "abcd"),),
)


@pytest.mark.parametrize(
    "report", [REPORT, replace(REPORT, outcome=Outcome.SUCCEEDED, error=None, partial='{"é": 1}', folds=())]
)
def test_a_report_survives_the_wire(report):
    assert Report.from_json(report.to_json()) == report
    assert Report.from_json(report.to_json().decode()) == report


def test_every_field_of_a_report_travels():
    plain = replace(REPORT, partial="{}")
    back = Report.from_json(plain.to_json())
    assert {field.name: getattr(back, field.name) for field in fields(plain)} == {
        field.name: getattr(plain, field.name) for field in fields(plain)
    }


@pytest.mark.parametrize(
    "change", [{"token": "other"}, {"delivery": 9}, {"worker": "other"}, {"duration_seconds": 0.0}]
)
def test_the_hash_does_not_depend_on_who_ran_it_and_when(change):
    assert replace(REPORT, **change).hash == REPORT.hash


@pytest.mark.parametrize(
    "change",
    [{"outcome": Outcome.LOST}, {"partial": "{}"}, {"error": replace(ERROR, message="other")}, {"error": None}],
)
def test_the_hash_depends_on_what_is_contributed(change):
    assert replace(REPORT, **change).hash != REPORT.hash
    assert len(REPORT.hash) == 16


@pytest.mark.parametrize(
    ("partial", "is_larger"), [(None, False), ("", False), ("x" * 8, False), ("x" * 9, True), ("é" * 5, True)]
)
def test_its_size_is_that_of_its_contribution_in_bytes(partial, is_larger):
    assert replace(REPORT, partial=partial).is_larger_than(8) is is_larger
