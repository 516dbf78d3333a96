"""What `run` and `resume` say at their end: data on stdout, advice on stderr, and the exit code."""

import json
from typing import TYPE_CHECKING, Any

import click

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import RunCancelled
from orchestrator.middleware.cause_chain import error_record
from rollforward.cli.drive import Conclusion, DrivenElsewhere
from rollforward.cli.failure import SUCCEEDED, exit_code_of, tell
from rollforward.cli.output import counted, print_document
from rollforward.cli.verb import is_verbose
from rollforward.hosting import Host

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

_SIGNAL_BASE = 128


def report(conclusion: Conclusion, graph: "Graph", *, host: Host, address: str | None, output: str) -> int:
    """Print how the run ended and give the exit code; `address` is where its graph was found, if that was named."""
    for loss in conclusion.losses:
        click.echo(loss, err=True)
    if conclusion.left_by is not None:
        _tell_left(conclusion.run_id, host, address)
        return _SIGNAL_BASE + conclusion.left_by
    print_ending(conclusion, graph, output=output)
    if conclusion.error is None:
        _tell_failed(conclusion)
        return SUCCEEDED
    advice = _see_errors(conclusion.run_id) if conclusion.status is RunStatus.FAILED else None
    tell(conclusion.error, is_verbose=is_verbose(click.get_current_context(silent=True)), advice=advice)
    if not isinstance(conclusion.error, DrivenElsewhere | RunCancelled):
        click.echo(_resume_line(conclusion.run_id, host, address), err=True)
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
            category = error_record(conclusion.error, with_traceback=False).shown_category
            document["error"] = {"category": category, "message": str(conclusion.error)}
    print_document(document, output)


def _tell_left(run_id: str, host: Host, address: str | None) -> None:
    if not host.is_embedded:
        click.echo(
            f"run {run_id} stays submitted, and a `rollforward serve` that has its graph goes on with it; "
            f"`rollforward cancel {run_id}` ends it",
            err=True,
        )
    click.echo(_resume_line(run_id, host, address), err=True)


def _tell_failed(conclusion: Conclusion) -> None:
    if conclusion.failed_count:
        failed = counted(conclusion.failed_count, "instance")
        click.echo(f"{failed} failed; {_see_errors(conclusion.run_id)}", err=True)


def _see_errors(run_id: str) -> str:
    return f"see `rollforward errors {run_id}`"


def _resume_line(run_id: str, host: Host, address: str | None) -> str:
    """How to go on; an embedded run's folder remembers the graph, elsewhere it has to be named."""
    is_remembered = host.is_embedded and host.folder is not None
    graph = "" if is_remembered or address is None else f" --graph {address}"
    return f"go on with it: rollforward resume {run_id}{graph}"
