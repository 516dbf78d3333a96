"""Audit a folder of Python sources, one instance a file; by default the standard library that runs this.

rollforward run examples.stdlib_audit:graph -o json | python -m examples.stdlib_audit audit.json
"""

import ast
import os
import sys
import sysconfig
import warnings
from heapq import nlargest
from pathlib import Path
from typing import Annotated, Any

from examples.audit_report import Failure, Function, Measure, Report, present
from examples.source_outline import Definition, outline
from rollforward import END, GraphBuilder, State, append, current_fan_out_index

WITNESS = "ROLLFORWARD_WITNESS"


class UnparsableSource(Exception):
    """A file is no Python that this interpreter understands."""

    category = "source_unparsable"


class Source(State):
    """One file on its way through read, parse and measure."""

    folder: str
    path: str
    content: bytes = b""
    definitions: list[Definition] = []
    problem: str = ""
    measure: Measure | None = None


class Audit(State):
    """The whole audit; without a `folder`, of the standard library."""

    folder: str = ""
    paths: list[str] = []
    measures: Annotated[list[Measure], append] = []
    errors: Annotated[list[dict[str, str]], append] = []
    report: Report | None = None


def leave_witness() -> None:
    """Append `index pid` to the file that ROLLFORWARD_WITNESS names, so that executions can be counted."""
    if path := os.environ.get(WITNESS):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{current_fan_out_index()} {os.getpid()}\n".encode())
        finally:
            os.close(descriptor)


def list_files(state: Audit) -> dict[str, Any]:
    """Find the sources, as sorted paths relative to the folder, without installed packages."""
    folder = Path(state.folder or sysconfig.get_path("stdlib"))
    found = (path.relative_to(folder) for path in folder.rglob("*.py"))
    paths = sorted(path.as_posix() for path in found if "site-packages" not in path.parts)
    return {"folder": str(folder), "paths": paths}


def read(state: Source) -> dict[str, bytes]:
    """Read the file, after leaving a witness."""
    leave_witness()
    return {"content": (Path(state.folder) / state.path).read_bytes()}


async def parse(state: Source) -> dict[str, Any]:
    """List what the file defines, or say why it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in other people's sources
            tree = ast.parse(state.content, filename=state.path)
    except (SyntaxError, ValueError, RecursionError) as error:
        return {"problem": str(error)}
    return {"definitions": outline(tree)}


def route(state: Source) -> str:
    """Choose the node after parse."""
    return "unparsable" if state.problem else "measure"


async def unparsable(state: Source) -> dict[str, Any]:
    """Fail, so that the file is shown as a failed instance with its reason."""
    raise UnparsableSource(state.problem)


async def measure(state: Source) -> dict[str, Measure]:
    """Count lines, classes and functions, and how complex each function is."""
    functions = [
        Function(path=state.path, name=found.name, line=found.line, complexity=1 + found.branches)
        for found in state.definitions
        if found.is_function
    ]
    lines, classes = len(state.content.splitlines()), len(state.definitions) - len(functions)
    return {"measure": Measure(path=state.path, lines=lines, classes=classes, functions=functions)}


async def summarise(state: Audit) -> dict[str, Report]:
    """Add up what all files hold."""
    functions = [function for each in state.measures for function in each.functions]
    complexity = sum(function.complexity for function in functions)
    report = Report(
        files=len(state.paths),
        measured=len(state.measures),
        lines=sum(each.lines for each in state.measures),
        classes=sum(each.classes for each in state.measures),
        functions=len(functions),
        mean_complexity=round(complexity / max(len(functions), 1), 2),
        most_complex=nlargest(10, functions, key=lambda function: function.complexity),
        failures=[failure(state.paths, error) for error in state.errors],
    )
    return {"report": report}


def failure(paths: list[str], error: dict[str, str]) -> Failure:
    """Name the file of a failed instance."""
    reason = error.get("message") or error["category"]
    return Failure(path=paths[int(error["fan_out_index"])], reason=reason)


file_graph = (
    GraphBuilder(Source)
    .add_node("read", read)
    .add_node("parse", parse)
    .add_node("measure", measure)
    .add_node("unparsable", unparsable)
    .set_entry("read")
    .add_edge("read", "parse")
    .add_conditional_edge("parse", route)
    .add_edge("measure", END)
    .add_edge("unparsable", END)
    .compile(name="stdlib-audit-file")
)

graph = (
    GraphBuilder(Audit)
    .add_node("list_files", list_files)
    .add_fan_out_node(
        "files",
        subgraph=file_graph,
        items_field="paths",
        item_field="path",
        inputs={"folder": "folder"},
        collect_field="measure",
        target_field="measures",
        errors_field="errors",
        error_policy="collect",
        concurrency="auto",
        key=str,
    )
    .add_node("summarise", summarise)
    .set_entry("list_files")
    .add_edge("list_files", "files")
    .add_edge("files", "summarise")
    .add_edge("summarise", END)
    .compile(name="stdlib-audit")
)


def main() -> None:
    """Print the report of a finished run, which comes as JSON on stdin, and write it to the file that is named."""
    if len(sys.argv) != 2:
        sys.exit(
            "usage: rollforward run examples.stdlib_audit:graph -o json | python -m examples.stdlib_audit REPORT.json"
        )
    present(sys.stdin.read(), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
