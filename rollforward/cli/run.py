"""`rollforward run`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import CallerError
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.graph.graph import Graph
from orchestrator.state import State
from rollforward.assembly import Assembly, ExecutorName, assembled
from rollforward.cli.aside import stdout_aside
from rollforward.cli.conclusion import print_ending, report
from rollforward.cli.drive import Conclusion, announce, conclude, ready
from rollforward.cli.entry_check import check_entry
from rollforward.cli.first_state import FirstState
from rollforward.cli.metadata import metadata_of
from rollforward.cli.progress import STYLES
from rollforward.cli.run_id import checked_run_id, new_run_id
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from rollforward.graph_address import GraphAddress
from rollforward.hosting import Host, hosted
from workers.settings import Settings
from workers.tracing import offer

_FILE = click.Path(path_type=Path)


class NeedsDeployment(CallerError):
    """What was asked for outlives this process, and nothing here does."""

    category = "needs_deployment"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs a deployment: set ROLLFORWARD_REDIS_URL, and ROLLFORWARD_CHECKPOINT_URL where the store is "
            "not in this folder"
        )


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run that is about to be submitted."""

    run_id: str
    address: GraphAddress
    graph: Graph
    state: State
    metadata: Mapping[str, Any]
    correlation_id: str | None = None

    async def submit_to(self, orchestrator: Orchestrator) -> None:
        await orchestrator.submit(
            self.graph,
            self.state,
            run_id=self.run_id,
            correlation_id=self.correlation_id,
            metadata=self.metadata,
        )


@click.command(cls=Verb)
@click.argument("graph", metavar="MODULE:GRAPH")
@click.option("--input", "input_file", type=_FILE, metavar="FILE.json", help="Fields of the first state.")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=JSON", help="One field of the first state.")
@click.option("--items", "item_file", type=_FILE, metavar="FILE", help="Items: .jsonl, .csv, or a text a line.")
@click.option("--into", metavar="FIELD", help="The field of the first state that the items go into.")
@click.option("--meta", "metadata", multiple=True, metavar="NAME=VALUE", help="Metadata of the run: JSON, or a text.")
@click.option("--run-id", help="The run's id; by default a new one.")
@click.option("--correlation-id", help="Your own id, on all that is kept of the run; by default a new one.")
@click.option("--executor", type=click.Choice(["celery", "local"]), default="celery", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Places of the workers started for this run.")
@click.option("--detach", is_flag=True, help="Submit only; `rollforward serve` drives it.")
@click.option("--progress", type=click.Choice(STYLES), default="auto", show_default=True)
@output_option()
def command(graph: str, **options: Any) -> None:
    """Run a graph to its end, with the current folder on the import path.

    With no Redis configured the run is embedded: a private Redis and workers that end with it, and everything that
    it keeps in .rollforward/.
    """
    settings = read_settings()
    with stdout_aside():
        new = _prepared(graph, options, max_item_bytes=settings.max_item_bytes)
    settings = with_graph(settings, new.address)
    if options["detach"]:
        _submit_only(settings, new, output=options["output"])
        return
    with hosted(settings, options["executor"], workers=options["workers"]) as host:
        announce(host)
        with stdout_aside():
            conclusion = asyncio.run(_driven(host, new, style=options["progress"]))
        exit_code = report(conclusion, new.graph, host=host, address=str(new.address), output=options["output"])
    click.get_current_context().exit(exit_code)


def with_graph(settings: Settings, address: GraphAddress) -> Settings:
    """The settings with the module of a graph among those that workers import."""
    graphs = tuple(dict.fromkeys((*settings.graphs, address.module)))
    return settings.model_copy(update={"graphs": graphs})


def _prepared(graph: str, options: dict[str, Any], *, max_item_bytes: int) -> NewRun:
    run_id = checked_run_id(options["run_id"]) if options["run_id"] else new_run_id()
    metadata = metadata_of(options["metadata"])
    address = GraphAddress.parse(graph)
    compiled = address.load()
    names = ("input_file", "assignments", "item_file", "into")
    first = FirstState(**{name: options[name] for name in names})
    state = first.build(compiled.state_class)
    check_entry(compiled, state, first, max_item_bytes=max_item_bytes)
    correlation_id = options["correlation_id"]
    return NewRun(
        run_id=run_id, address=address, graph=compiled, state=state, metadata=metadata, correlation_id=correlation_id
    )


def _submit_only(settings: Settings, new: NewRun, *, output: str) -> None:
    if settings.redis_url is None:
        raise NeedsDeployment("--detach")

    async def submit() -> None:
        async with assembled(settings, "celery") as assembly:
            await ready(assembly, Host(settings, "celery"), new.graph)
            await new.submit_to(assembly.orchestrator)

    asyncio.run(submit())
    status = RunStatus.SUBMITTED
    print_ending(Conclusion(run_id=new.run_id, invocation_id=new.run_id, status=status), new.graph, output=output)


async def _driven(host: Host, new: NewRun, *, style: str) -> Conclusion:
    async with assembled(host.settled(), host.executor) as assembly:
        offer(assembly.provider)
        await ready(assembly, host, new.graph)
        await _submitted(assembly, host, new)
        handle = await assembly.orchestrator.start(new.run_id, new.graph)
        conclusion = await conclude(handle, host, style=style)
    return replace(conclusion, losses=assembly.observers.losses())


async def _submitted(assembly: Assembly, host: Host, new: NewRun) -> None:
    await new.submit_to(assembly.orchestrator)
    if host.folder is not None:
        executor: ExecutorName = host.executor
        host.folder.remember(new.run_id, {"graph": str(new.address), "executor": executor})
