"""What `run` and `resume` say at their end: data on stdout, advice on stderr, and the exit code."""

import json
from typing import TYPE_CHECKING, Any

import click

from orchestrator.errors import RunCancelled
from rollforward.cli.drive import Conclusion, DrivenElsewhere
from rollforward.cli.failure import SUCCEEDED, exit_code_of, tell
from rollforward.cli.output import print_document
from rollforward.cli.verb import is_verbose

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

_SIGNAL_BASE = 128


def report(conclusion: Conclusion, graph: "Graph", *, output: str) -> int:
    """Print how the run ended and give the exit code."""
    if conclusion.left_by is not None:
        click.echo(_resume_line(conclusion.run_id), err=True)
        return _SIGNAL_BASE + conclusion.left_by
    print_ending(conclusion, graph, output=output)
    if conclusion.error is None:
        return SUCCEEDED
    tell(conclusion.error, is_verbose=is_verbose(click.get_current_context(silent=True)))
    if not isinstance(conclusion.error, DrivenElsewhere | RunCancelled):
        click.echo(_resume_line(conclusion.run_id), err=True)
    return exit_code_of(conclusion.error)


def print_ending(conclusion: Conclusion, graph: "Graph", *, output: str) -> None:
    """Print the run's ids, its status and its final state."""
    state = None if conclusion.state is None else json.loads(graph.codec.dump(conclusion.state))
    document: dict[str, Any] = {
        "run_id": conclusion.run_id,
        "invocation_id": conclusion.invocation_id,
        "status": conclusion.status.value,
    }
    if output == "table":
        document.update(state or {})
    else:
        document["state"] = state
        if conclusion.error is not None:
            category = getattr(conclusion.error, "category", None)
            document["error"] = {"category": category, "message": str(conclusion.error)}
    print_document(document, output)


def _resume_line(run_id: str) -> str:
    return f"go on with it: rollforward resume {run_id}"
