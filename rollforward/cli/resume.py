"""`rollforward resume`."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, get_args

import click

from orchestrator.checkpoint.row import Run, RunStatus
from orchestrator.errors import FingerprintMismatch, GraphNotFound, RunIsDriven
from orchestrator.graph.graph import Graph
from orchestrator.graph.registry import registry
from rollforward.assembly import ExecutorName, assembled
from rollforward.cli.aside import stdout_aside
from rollforward.cli.conclusion import report
from rollforward.cli.drive import Conclusion, announce, conclude, ready
from rollforward.cli.progress import STYLES
from rollforward.cli.record import found_run
from rollforward.cli.run import with_graph
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from rollforward.embedded.folder import DEFAULT_PATH, Folder
from rollforward.graph_address import GraphAddress
from rollforward.hosting import Host, hosted
from rollforward.liveness import is_dead
from workers.graph_list import load_graphs
from workers.settings import Settings
from workers.tracing import offer


class GraphUnknownHere(GraphNotFound):
    """The graph of a run cannot be told from what is known here."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.graph, fingerprint=run.fingerprint)
        self.args = (f"{self.args[0]}, or name it: `rollforward resume {run.run_id} --graph MODULE:GRAPH`",)


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A kept run, and the graph here that goes on with it."""

    run: Run
    graph: Graph
    accept_code: bool
    accept_older_record: bool


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@click.option("--graph", "address", metavar="MODULE:GRAPH", help="The run's graph, where it is not known here.")
@click.option("--accept-code", is_flag=True, help="Go on with another version of the graph.")
@click.option("--accept-older-record", is_flag=True, help="Go on after a restored backup; run again what it lacks.")
@click.option("--executor", type=click.Choice(["celery", "local"]), help="By default as the run was started here.")
@click.option("--workers", type=click.IntRange(min=1), help="Places of the workers started for this run.")
@click.option("--progress", type=click.Choice(STYLES), default="auto", show_default=True)
@output_option()
def command(run_id: str, **options: Any) -> None:
    """Go on with a run where it stopped: nothing that is recorded runs again.

    A run that has succeeded gives its result once more.
    """
    settings = read_settings()
    run = asyncio.run(found_run(settings, run_id))
    known = Folder(DEFAULT_PATH).recall(run.run_id)
    address = options["address"] or known.get("graph")
    with stdout_aside():
        settings, graph = _graph_of(run, settings, address, options["accept_code"])
    accepted = {name: options[name] for name in ("accept_code", "accept_older_record")}
    resumption = Resumption(run=run, graph=graph, **accepted)
    executor = _executor(run, settings, options["executor"] or known.get("executor"))
    _check(resumption)
    with hosted(settings, executor, workers=options["workers"]) as host:
        announce(host)
        with stdout_aside():
            conclusion = asyncio.run(_driven(host, resumption, style=options["progress"]))
        exit_code = report(conclusion, graph, host=host, address=address, output=options["output"])
    click.get_current_context().exit(exit_code)


def _graph_of(run: Run, settings: Settings, address: str | None, accept_code: bool) -> tuple[Settings, Graph]:
    """The run's graph, from a module that the user named: now, in the settings, or when the run was started here."""
    load_graphs(settings.graphs)
    if address is not None:
        parsed = GraphAddress.parse(address)
        graph = parsed.load()
        if graph.name == run.graph or accept_code:
            return with_graph(settings, parsed), graph
    try:
        return settings, registry.find(run.graph, None if accept_code else run.fingerprint)
    except GraphNotFound as error:
        raise GraphUnknownHere(run) from error


def _executor(run: Run, settings: Settings, wanted: str | None) -> ExecutorName:
    # A finished run only gives its state, and lets go of what it has left in a ledger: nothing is started for that.
    if run.status.is_over and settings.redis_url is None:
        return "local"
    return next((name for name in get_args(ExecutorName) if name == wanted), "celery")


def _check(resumption: Resumption) -> None:
    """Refuse before anything is started; the orchestrator refuses as well, should another come first."""
    run, graph = resumption.run, resumption.graph
    if run.fingerprint != graph.fingerprint and not resumption.accept_code:
        raise FingerprintMismatch(run.graph, run.fingerprint, graph.fingerprint)
    if run.status is RunStatus.RUNNING and run.owner is not None and not is_dead(run.owner):
        raise RunIsDriven(run.run_id, run.owner)


async def _driven(host: Host, resumption: Resumption, *, style: str) -> Conclusion:
    run, graph = resumption.run, resumption.graph
    async with assembled(host.settled(), host.executor) as assembly:
        offer(assembly.provider)
        if not run.status.is_over:
            await ready(assembly, host, graph)
        handle = await assembly.orchestrator.start(
            run.run_id,
            graph,
            accept_code=resumption.accept_code,
            accept_older_record=resumption.accept_older_record,
        )
        conclusion = await conclude(handle, host, style=style)
    return replace(conclusion, losses=assembly.observers.losses())
