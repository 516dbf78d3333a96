"""What the audit reports, as a table and as JSON."""

import json
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table


class Function(BaseModel):
    """A function and its cyclomatic complexity."""

    path: str
    name: str
    line: int
    complexity: int


class Measure(BaseModel):
    """What one file holds."""

    path: str
    lines: int
    classes: int
    functions: list[Function]


class Failure(BaseModel):
    """A file that could not be measured, and why."""

    path: str
    reason: str


class Report(BaseModel):
    """The audit: totals, the ten most complex functions, and what failed."""

    files: int
    measured: int
    lines: int
    classes: int
    functions: int
    mean_complexity: float
    most_complex: list[Function]
    failures: list[Failure]


def present(run: str, target: Path) -> None:
    """Print the report of a finished run, given as `rollforward run -o json` prints it, and write it as JSON."""
    report = Report.model_validate(json.loads(run)["state"]["report"])
    target.write_text(report.model_dump_json(indent=2) + "\n")
    console = Console()
    console.print(totals(report))
    console.print(most_complex(report))
    if report.failures:
        console.print(failures(report))


def totals(report: Report) -> Table:
    """Lay out the sums over all files."""
    table = Table("files", "measured", "lines", "classes", "functions", "mean complexity", title="Totals")
    facts = (report.files, report.measured, report.lines, report.classes, report.functions, report.mean_complexity)
    table.add_row(*(f"{fact:,}" for fact in facts))
    return table


def most_complex(report: Report) -> Table:
    """Lay out the functions with the most ways through."""
    table = Table("complexity", "function", "where", title="Most complex functions")
    for function in report.most_complex:
        table.add_row(str(function.complexity), function.name, f"{function.path}:{function.line}")
    return table


def failures(report: Report) -> Table:
    """Lay out the files that could not be measured."""
    table = Table("file", "reason", title=f"{len(report.failures)} files could not be measured")
    for failure in report.failures:
        table.add_row(failure.path, failure.reason)
    return table
